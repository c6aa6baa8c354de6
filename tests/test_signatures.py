"""`fastcnn.functional` and `fastcnn.reference` are one interface."""

import inspect

import pytest

from fastcnn import functional, reference
from fastcnn.kernels.selection import IMPLEMENTATIONS

ONLY_IN_THE_REFERENCE = {"compute_in", "loops"}
LOOPS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad", "max_pool2d", "max_pool2d_grad")
CHOOSING = (*LOOPS, "relu_max_pool2d", "relu_max_pool2d_grad")


def parameters(function):
    """Names, kinds and defaults, in order; annotations may differ."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_same_names():
    assert set(functional.__all__) == set(reference.__all__) - ONLY_IN_THE_REFERENCE
    for module in (functional, reference):
        assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("name", sorted(functional.__all__))
def test_same_signatures(name):
    ours, theirs = parameters(getattr(functional, name)), parameters(getattr(reference, name))
    if name in CHOOSING:
        keyword = inspect.Parameter.KEYWORD_ONLY
        assert ours[-2:] == [("algorithm", keyword, "auto"), ("out", keyword, None)]
        ours = ours[:-2]
    elif name == "conv2d_parameter_grads":
        assert ours.pop() == ("algorithm", inspect.Parameter.KEYWORD_ONLY, "auto")
    assert ours == theirs


@pytest.mark.parametrize("name", sorted(LOOPS))
def test_the_loops_take_the_same_arguments(name):
    loop = getattr(reference.loops, name)
    assert parameters(loop) == parameters(getattr(reference, name))


def test_every_choice_serves_an_operation_and_has_a_portable_kernel():
    assert set(CHOOSING) <= set(IMPLEMENTATIONS) <= set(functional.__all__)
    for entries in IMPLEMENTATIONS.values():
        names = [entry.name for entry in entries]
        assert "portable" in names
        assert "auto" not in names
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("module", [functional, reference], ids=["functional", "reference"])
def test_every_operation_is_documented(module):
    """What goes in, what comes out, what is refused; one function may refer to another."""
    for name in module.__all__:
        text = inspect.getdoc(getattr(module, name))
        assert text, name
        if name not in ONLY_IN_THE_REFERENCE:
            assert "Returns\n---" in text, name
            for heading in ("Parameters", "Raises"):
                referred = "Parameters and errors are those of `" in text
                assert referred or f"{heading}\n---" in text, f"{name} lacks {heading}"
