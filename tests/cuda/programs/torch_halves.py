"""PyTorch's side of the benchmark in bf16, on the host, against the reference."""

import torch

from fastcnn.benchmark import judging
from fastcnn.benchmark.cases import Case, cases
from fastcnn.benchmark.networks import NetworkProblem
from fastcnn.benchmark.sides import pytorch
from fastcnn.verification.problems import find

wanted = cases([], ["forward", "dx", "dw"], [find("n2c8h6k9r3p1"), find("n3i5o4")])
wanted.append(Case("train_step", NetworkProblem("keras_counts", 2)))
for case in wanted:
    want = judging.expected(case)
    for variant in pytorch.variants(case):
        side = pytorch.prepare(variant, case, case.data(), 1, "cpu", torch.bfloat16)
        side.run(0)
        error = judging.error(side.answer(0), want)
        # autocast rounds gradients as well, down to where a rectifier decides otherwise
        allowed = 0.5 if case.operation == "train_step" else judging.allowed(case, "bf16")
        assert 1e-4 < error < allowed, (str(case), variant, error)
print("right")
