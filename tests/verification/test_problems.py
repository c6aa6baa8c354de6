"""Problem strings round trip, named layers are what their networks have, errors name the part."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcnn.verification import problems
from fastcnn.verification.problems import (
    ConvProblem,
    DenseProblem,
    PoolProblem,
    ShapeProblem,
    find,
    parse,
    suite,
    suites,
)
from tests.geometries import conv_cases, pool_cases

CONV_SUITES = (
    "seeds",
    "small_images",
    "vgg16",
    "resnet50",
    "alexnet",
    "convnet_benchmarks",
    "deepbench",
    "mobilenet_depthwise",
    "odd",
)


@settings(deadline=None, max_examples=200)
@given(case=conv_cases())
def test_every_convolution_can_be_said(case):
    kernel = (case.C, case.H, case.W, case.K, case.R, case.S)
    options = case.stride, case.padding, case.dilation, case.groups
    problem = ConvProblem(case.N or 0, *kernel, *options)
    assert parse(str(problem)) == problem
    assert problem.geometry.output_shape[1:] == case.output_shape[-3:]


@settings(deadline=None, max_examples=200)
@given(case=pool_cases())
def test_every_pooling_can_be_said(case):
    window = (case.kernel_size,) * 2 if isinstance(case.kernel_size, int) else case.kernel_size
    problem = PoolProblem(
        case.N or 0,
        case.C,
        case.H,
        case.W,
        *window,
        case.strides,
        case.padding,
        case.dilation,
        case.ceil_mode,
    )
    assert parse(str(problem)) == problem
    assert problem.geometry.output_shape[1:] == case.output_shape[-3:]


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(0, 999), min_size=1, max_size=5))
def test_every_shape_and_dense_layer_can_be_said(sizes):
    assert parse(str(ShapeProblem(tuple(sizes)))) == ShapeProblem(tuple(sizes))
    dense = DenseProblem(sizes[0], sizes[-1] + 1, len(sizes))
    assert parse(str(dense)) == dense


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("n8c64h56k64r3p1", ConvProblem(8, 64, 56, 56, 64, 3, 3, padding=1)),
        ("r3k64p1h56c64n8", ConvProblem(8, 64, 56, 56, 64, 3, 3, padding=1)),
        ("c3h8w9k4r2s3", ConvProblem(1, 3, 8, 9, 4, 2, 3)),
        (
            "c4h9k4r3st2x1p0x2x1x0d1x2g2",
            ConvProblem(1, 4, 9, 9, 4, 3, 3, (2, 1), (0, 2, 1, 0), (1, 2), 2),
        ),
        ("c3h8k4r3psame_upperst2", ConvProblem(1, 3, 8, 8, 4, 3, 3, 2, "same_upper")),
        ("c3h8k4r3psamest1", ConvProblem(1, 3, 8, 8, 4, 3, 3, 1, "same")),
        ("c3h8r2", PoolProblem(1, 3, 8, 8, 2, 2, 2)),
        ("c3h8r3s2", PoolProblem(1, 3, 8, 8, 3, 2, (3, 2))),
        ("c3h9r2st1ceil", PoolProblem(1, 3, 9, 9, 2, 2, 1, ceil_mode=True)),
        ("n64i400o120", DenseProblem(64, 400, 120)),
        ("64x10", ShapeProblem((64, 10))),
        ("7", ShapeProblem((7,))),
    ],
)
def test_strings_and_their_defaults(text, problem):
    assert parse(text) == problem


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("n8c64h56k64r3q1", "cannot read 'q1'"),
        ("n8c64h56k64r3 p1", "cannot read ' p1'"),
        ("n8c64h56k64r3n2", "'n' is given twice, again as 'n2'"),
        ("n8c64h56k64", "missing r \\(kernel height\\)"),
        ("n8h56r2", "missing c \\(channels\\)"),
        ("i5", "missing o \\(outputs\\)"),
        ("", "missing c"),
        ("n1c3h8k4r3p1x2x3", "'p1x2x3' must have 1 or 2 or 4 numbers, but has 3"),
        ("n1c3h8k4r3x3", "'r3x3' must have 1 numbers, but has 2"),
        ("n1c3h8k4rsame", "'rsame' must have a number, not a word"),
        ("n1c3h8k4r", "'r' lacks its value"),
        ("c3h8r2ceil2", "'ceil2' takes no value"),
        ("n1c3h8k4r3ceil", "a convolution has no 'ceil'"),
        ("n1c3i8o4", "a dense layer has no 'c3'"),
        ("3x", "cannot read '3x'"),
        ("c3h8k4r9", "Kernel size can't be greater than actual input size"),
        ("c4h8k4r3g3", "expected weight to be divisible by 3"),
        ("c3h8r2p2", "pad should be smaller than the effective window"),
        ("c3h8k4r3psamest2", "padding='same' is not supported for strided convolutions"),
        ("c3h8k4r3st0", "stride must be at least 1"),
    ],
)
def test_errors_name_the_offending_part(text, part):
    with pytest.raises(problems.ProblemError, match=part):
        parse(text)


def test_suites_are_those_of_the_benchmarks():
    assert tuple(suites()) == (*CONV_SUITES, "pooling", "dense", "elementwise")
    counts = [len(suite(name)) for name in suites()]
    assert counts == [7, 7, 9, 23, 5, 5, 10, 9, 7, 10, 4, 2]


@pytest.mark.parametrize("name", suites())
def test_named_problems_are_found_and_said_as_short_as_they_are_written(name):
    for problem in suite(name):
        assert find(problem.name) is problem
        assert problem.name.startswith(f"{name}.")
        assert find(str(problem)) == problem


def test_networks_facts():
    """Totals that the papers state: 8 of VGG-16's 13 shapes and ResNet's first layer."""
    vgg = [p.geometry for p in suite("vgg16")]
    assert [g.K for g in vgg] == [64, 64, 128, 128, 256, 256, 512, 512, 512]
    assert all((g.P, g.Q) == (g.H, g.W) for g in vgg)
    assert find("resnet50.conv1").geometry.output_shape == (8, 64, 112, 112)
    assert find("alexnet.conv1").geometry.output_shape == (16, 64, 55, 55)
    assert find("pooling.resnet.pool").geometry.output_shape == (8, 64, 56, 56)
    assert find("pooling.ceil").geometry.output_shape == (8, 32, 14, 14)
    depthwise = [p.geometry for p in suite("mobilenet_depthwise")]
    assert all(g.groups == g.C == g.K for g in depthwise)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("vgg16.conv3_3", "did you mean 'vgg16.conv3_2'"),
        ("vgg.conv3_2", "did you mean 'vgg16'"),
        ("zzz.conv1", "choose from seeds"),
    ],
)
def test_unknown_names_suggest_the_right_one(name, advice):
    with pytest.raises(ValueError, match=advice):
        find(name)


@pytest.mark.parametrize(
    ("text", "scaled"),
    [
        ("n8c64h56k128r3p1", "n2c16h56k16r3p1"),
        ("n1c64h56k8r3p1", "n1c16h56k8r3p1"),
        ("n8c3h8k4r3", "n2c3h8k4r3"),
        ("n8c32h9k32r3g32", "n2c16h9k16r3g16"),
        ("n8c32h9k64r3g32", "n2c16h9k16r3g16"),
        ("n8c64h9k32r3g4", "n2c16h9k16r3g4"),
        ("n8c64h9r2", "n2c16h9r2"),
        ("n8i400o10", "n2i16o10"),
        ("8x64x5x5", "2x16x5x5"),
        ("8", "2"),
    ],
)
def test_scaling_down(text, scaled):
    problem = parse(text)
    assert str(problem.scaled(batch=2, channels=16)) == scaled
    assert problem.scaled() == problem
