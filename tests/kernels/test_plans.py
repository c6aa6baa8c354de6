"""What a plan holds, and how long it is kept."""

import inspect

import pytest

import fastcnn
from fastcnn.geometry import conv2d_geometry, pool2d_geometry
from fastcnn.kernels import plans
from fastcnn.kernels.implementation import Problem
from fastcnn.kernels.plans import plan
from fastcnn.kernels.precision import PRECISIONS, current
from fastcnn.kernels.selection import IMPLEMENTATIONS
from tests.functional.operations import CONVOLUTIONS

GEOMETRY = conv2d_geometry((2, 3, 9, 8), (4, 3, 3, 3))


class TestKept:
    def test_the_same_call_has_the_same_plan(self):
        first = plan("conv2d", GEOMETRY, "float32")
        again = conv2d_geometry((2, 3, 9, 8), (4, 3, 3, 3), [1, 1], "valid")
        assert plan("conv2d", again, "float32") is first

    def test_every_part_of_the_problem_makes_another(self):
        wider = conv2d_geometry((2, 3, 9, 9), (4, 3, 3, 3))
        made = [
            plan("conv2d", GEOMETRY, "float32"),
            plan("conv2d", GEOMETRY, "float64"),
            plan("conv2d", GEOMETRY, "float32", "portable"),
            plan("conv2d", wider, "float32"),
            plan("conv2d_input_grad", GEOMETRY, "float32"),
        ]
        with fastcnn.precision("ieee"):
            made.append(plan("conv2d", GEOMETRY, "float32"))
        assert len({id(p) for p in made}) == len(made)
        assert [p.problem.precision for p in made] == ["float32"] * 5 + ["ieee"]

    def test_no_more_than_a_bound(self):
        bound = plans._plan.cache_info().maxsize
        assert bound is not None
        for height in range(1, bound + 20):
            plan("max_pool2d", pool2d_geometry((1, 1, height, 1), 1), "float32")
        assert plans._plan.cache_info().currsize == bound

    def test_a_refusal_is_not_kept(self):
        for _ in range(2):
            with pytest.raises(ValueError, match="has no algorithm 'fastest'"):
                plan("conv2d", GEOMETRY, "float32", "fastest")


class TestHolds:
    @pytest.mark.parametrize("operation", CONVOLUTIONS)
    def test_the_choice_and_what_runs_it(self, operation):
        for entry in IMPLEMENTATIONS[operation]:
            problem = Problem(operation, GEOMETRY, "float32")
            if entry.supports(problem) is None:
                made = plan(operation, GEOMETRY, "float32", entry.name)
                assert made.problem == problem
                assert made.implementation is entry
                assert inspect.unwrap(made.run) is entry.load(operation)
                assert made.workspace == entry.workspace(problem)

    @pytest.mark.parametrize("operation", CONVOLUTIONS)
    def test_a_workspace_that_a_large_layer_does_not_outgrow(self, operation):
        """Tiled: it fits into a few megabytes whatever the layer."""
        for entry in IMPLEMENTATIONS[operation]:
            for size, channels in ((7, 8), (224, 64), (56, 1024)):
                g = conv2d_geometry((64, channels, size, size), (channels, channels, 3, 3), 1, 1)
                for dtype in ("float32", "float64"):
                    problem = Problem(operation, g, dtype)
                    if entry.supports(problem) is None:
                        assert 0 <= entry.workspace(problem) <= 4 << 20, problem


class TestPrecision:
    def test_blocks_nest_and_end(self):
        assert current() == "float32"
        with fastcnn.precision("ieee"):
            with fastcnn.precision("tf32"):
                assert current() == "tf32"
            assert current() == "ieee"
        assert current() == "float32"

    def test_a_block_ends_at_an_exception(self):
        with pytest.raises(ZeroDivisionError), fastcnn.precision("ieee"):
            _ = 1 / 0
        assert current() == "float32"

    def test_other_names(self):
        with (
            pytest.raises(
                ValueError, match="one of ieee, float32, tf32, f16, bf16, but got 'half'"
            ),
            fastcnn.precision("half"),
        ):
            pass

    def test_a_default_call_finds_a_plan_in_every_precision(self):
        for name in PRECISIONS:
            with fastcnn.precision(name):
                assert plan("conv2d", GEOMETRY, "float64").problem.precision == name
