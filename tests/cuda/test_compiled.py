"""What the assembler makes of the portable kernels, for three architectures, without a GPU."""

import pytest

from fastcnn.kernels.cuda import (
    conv,
    dense,
    elements,
    loss,
    pool,
    rates,
    rows,
    softmax,
    sums,
    update,
)
from tests.cuda.conftest import needs_extra

pytestmark = needs_extra

ARCHITECTURES = [(7, 5), (8, 0), (9, 0)]
BLOCK = {"THREADS": 128}
ROW = {"THREADS": softmax.THREADS}
POOL = {"cell": "uint8", "RELU": True}

# Every kernel, with what its launch settles besides the type of the arrays.
KERNELS = {
    "conv2d": (conv._forward, {"RELU": True}),
    "conv2d_input_grad": (conv._input_grad, {}),
    "conv2d_weight_grad": (conv._weight_grad, BLOCK),
    "shares": (conv._add_shares, {}),
    "planes": (sums._planes, BLOCK),
    "rows": (sums._rows, {}),
    "max_pool2d": (pool._forward, {**POOL, "ROWS": 2, "COLUMNS": 2}),
    "max_pool2d of any window": (pool._forward, {**POOL, "ROWS": 0, "COLUMNS": 0}),
    "max_pool2d_grad": (pool._apart, {**POOL, "ROWS": 2, "COLUMNS": 2}),
    "max_pool2d_grad, overlapping": (pool._overlapping, POOL),
    "relu": (elements._from_one, {"formula": elements._rectified}),
    "sigmoid": (elements._from_one, {"formula": elements.logistic}),
    "tanh": (elements._from_one, {"formula": elements._tanh}),
    "relu_grad": (elements._from_two, {"formula": elements._relu_slope}),
    "tanh_grad": (elements._from_two, {"formula": elements._tanh_slope}),
    "softmax": (softmax._softmax, ROW),
    "softmax_grad": (softmax._softmax_grad, ROW),
    "dense": (dense._product, {}),
    "dense, parts": (dense._add_parts, {}),
    "binary": (loss._sum_elements, {"formula": loss._binary, **BLOCK}),
    "binary_grad": (elements._from_two, {"formula": loss._binary_slope}),
    "categorical": (loss._sum_images, {"LOGITS": True, **ROW}),
    "categorical_grad": (loss._softmax_slopes, ROW),
    "total": (loss._total, BLOCK),
    "one_hot": (loss._rows, {"label": "int64"}),
    "accuracy": (rows._count_right, BLOCK),
    "sgd": (update._sgd, {}),
    "momentum": (update._momentum, {}),
    "adam": (update._adam, {}),
}


@pytest.mark.parametrize("name", KERNELS)
def test_no_kernel_spills(name):
    """Nor has one a stack: local arrays are registers. Both types on one, float32 on the others."""
    declared, settled = KERNELS[name]
    for arch in ARCHITECTURES:
        for real in ("float32", "float64") if arch == (9, 0) else ("float32",):
            facts = declared.of(real=real, **settled).facts(arch)
            assert facts.spills == facts.stack == 0, (arch, real)
            assert facts.registers <= 128, (arch, real)
            assert not facts.count("(LDL|STL)"), (arch, real)


def test_loads_are_under_way_together():
    """Four loads before the first store: what hides the memory's latency."""
    facts = elements._from_one.of(real="float32", formula=elements._copied).facts((9, 0))
    order = [line for line in facts.sass.splitlines() if "LDG" in line or "STG" in line]
    assert ["LDG" in line for line in order] == [True] * 4 + [False] * 4


def test_a_pooling_window_is_unrolled():
    settled = {"real": "float32", "cell": "uint8", "RELU": False, "ROWS": 2, "COLUMNS": 2}
    facts = pool._forward.of(**settled).facts((9, 0))
    assert facts.count("LDG") == 4
    assert facts.count("STG") == 2
    assert not facts.count("CALL")  # no division


def test_pointers_are_single_parameters():
    """An array with its shape would take seven and more."""
    facts = elements._from_one.of(real="float32", formula=elements._copied).facts((9, 0))
    header = facts.ptx.split(".entry")[1].split(")")[0]
    assert header.count(".param") == 3


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_what_measures_a_rate_does_little_else(arch):
    """Of each turn of the loop, and what stands before and after it, most are multiply-adds."""
    facts = rates._multiply_adds.of(real="float32").facts(arch)
    assert facts.spills == facts.stack == 0
    assert facts.registers * rates.THREADS * rates.BLOCKS_PER_SM <= 65536
    assert facts.count("FFMA") >= rates.CHAINS * rates.STEPS
    assert facts.count("FFMA") > 0.7 * sum(facts.instructions.values())


@pytest.mark.parametrize("arch", ARCHITECTURES[1:])
def test_what_measures_tensor_cores_feeds_them_from_registers(arch):
    for kind, name in (("tf32", "HMMA.1688.F32.TF32"), ("bf16", "HMMA.16816.F32.BF16")):
        facts = rates._multiply_tiles.of(multiply=rates._KINDS[kind][1]).facts(arch)
        assert facts.spills == facts.stack == 0
        assert facts.count(name) % (rates.TILES * rates.PRODUCTS) == 0
        assert facts.count(name) >= rates.TILES * rates.PRODUCTS
        assert facts.count("(LDG|LDS)") <= 2
