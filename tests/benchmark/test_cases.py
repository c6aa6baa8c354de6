"""Cases: their data, FLOPs and bytes, and how they are named."""

import numpy as np
import pytest

from fastcnn.benchmark.cases import SETS, Case, cases, suites
from fastcnn.benchmark.networks import NetworkProblem
from fastcnn.benchmark.operations import MEASURED, chosen, words
from fastcnn.benchmark.sides.fast import selection_problem
from fastcnn.kernels.selection import IMPLEMENTATIONS
from fastcnn.verification.problems import find


def test_every_operation_with_kernels_is_measured():
    # bias gradients are timed with the weight gradients, updates of parameters with whole steps
    elsewhere = {"conv2d_bias_grad", "dense_bias_grad", "sgd_step", "momentum_step", "adam_step"}
    assert {m.function for m in MEASURED.values()} - {""} == set(IMPLEMENTATIONS) - elsewhere


def test_input_sets_differ_and_weights_are_shared_and_nothing_is_denormal():
    for text in ("n2c4h9k6r3p1", "n2c4h9r3st2", "n4i10o7", "8x10"):
        for case in cases([], None, [find(text)]):
            sets = case.data()
            assert len(sets) == SETS
            for name, array in sets[0].items():
                assert array.flags.c_contiguous  # else every timed call would copy it first
                others = [s[name] for s in sets[1:]]
                if name in case.measured.weights:
                    assert all(other is array for other in others)
                elif array.dtype.kind == "f":
                    assert not any(np.array_equal(other, array) for other in others)
                    tiny = np.finfo(array.dtype).tiny
                    assert not np.any((array != 0) & (np.abs(array) < tiny))


def test_data_are_the_same_in_every_process():
    case = Case("conv2d", find("n2c4h9k6r3p1"))
    first, again = case.data()[1], case.data()[1]
    assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    ("operation", "problem", "flops", "moved"),
    [
        # depthwise: C/groups = 1 term per tap
        ("conv2d", "n1c4h5k4r3p1g4", 2 * 4 * 25 * 9, 4 * (100 + 100 + 36)),
        ("conv2d_weight_grad", "n1c2h4k3r2", 2 * 3 * 9 * 8, 4 * (32 + 27 + 24)),
        ("max_pool2d", "n1c2h4r2", 0, 4 * (32 + 8) + 8),
        ("dense", "n3i4o5", 2 * 60, 4 * (12 + 15 + 20)),
        ("relu", "8x10", 0, 4 * 160),
        ("relu_grad", "8x10", 0, 4 * 240),
        ("half_squared_error", "8x10", 0, 4 * 160),
        # integer labels take eight bytes each
        ("categorical_cross_entropy_grad", "8x10", 0, 4 * 160 + 64),
    ],
)
def test_flops_and_bytes_by_hand(operation, problem, flops, moved):
    case = Case(operation, find(problem))
    assert (case.flops, case.bytes) == (flops, moved)


def test_flops_of_a_network_by_hand():
    # fifteen_parameter: conv 16 pixels * 9 taps, dense 4 weights; forward and dw, and the dense
    # layer's dx; two per multiply-add, three images
    assert NetworkProblem("fifteen_parameter", 3).flops == 3 * 2 * (2 * 144 + 3 * 4)


def test_words_find_groups_and_operations():
    assert {m.name for m in chosen(["dw"])} == {"conv2d_weight_grad", "dense_weight_grad"}
    assert [m.name for m in chosen(["relu"])] == ["relu"]
    assert {"forward", "frozen", "dx", "dw", "step", "conv2d"} <= set(words())
    with pytest.raises(ValueError, match="did you mean 'forward'"):
        chosen(["forwrd"])


def test_suites_have_cases_and_unknown_ones_are_answered_with_the_nearest():
    for name in suites():
        assert bool(cases([name])) == (name != "startup")
    with pytest.raises(ValueError, match="did you mean 'vgg16'"):
        cases(["vgg61"])


def test_losses_run_on_their_own_suite_and_activations_on_layers_outputs():
    losses = {c.operation for c in cases(["losses"])}
    activations = {c.operation for c in cases(["elementwise"])}
    assert {"relu", "softmax_grad"} <= activations
    assert {"binary_cross_entropy", "categorical_cross_entropy_with_logits_grad"} <= losses
    assert not losses & activations


def test_the_case_is_what_the_selection_lists_see():
    problem = selection_problem(Case("conv2d_frozen", find("n2c4h9k6r3p1"), "float64"))
    assert (problem.operation, problem.dtype, problem.geometry.P) == ("conv2d", "float64", 9)
