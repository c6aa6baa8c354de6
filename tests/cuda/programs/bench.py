"""`fastcnn bench --device cuda` on tiny problems, in this process: its JSON and its table."""

import json
import sys

from fastcnn.benchmark import table
from fastcnn.benchmark.cases import Case, cases
from fastcnn.benchmark.networks import NetworkProblem
from fastcnn.benchmark.processes import LocalWorker
from fastcnn.benchmark.runner import Run
from fastcnn.benchmark.settings import Settings
from fastcnn.verification.problems import find

sys.setswitchinterval(1e-5)

wanted = cases([], None, [find(text) for text in ("n1c1h3k1r2", "n1c1h2r2", "n1i2o2", "2x3")])
wanted = [case for case in wanted if case.operation != "conv2d_frozen"]
wanted.append(Case("train_step", NetworkProblem("small_ann", 2)))
settings = Settings(
    rounds=1, most_rounds=1, seconds=1e-6, pause=0.0, device="cuda", precision="ieee"
)
with Run(wanted, settings, make_worker=LocalWorker) as run:
    content = run.execute().to_dict()
print(json.dumps(content))
print("\n".join(table.lines(content)))
