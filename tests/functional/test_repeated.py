"""Calls repeated by recipe: the same bits, the same errors, the same conditions as the first."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from marshal import loads

import numpy as np
import pytest

import fastcnn
from fastcnn import functional, precision
from fastcnn.functional import repeated
from fastcnn.geometry import Extent
from fastcnn.kernels import plans, selection
from fastcnn.kernels.cpu.jit import config, kernel
from fastcnn.kernels.cpu.recipe import recipe_of
from fastcnn.kernels.cpu.replay import recording
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.implementation import Problem
from fastcnn.verification.problems import parse

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")

ENOUGH = repeated._WARM_UP + 1


@pytest.fixture(autouse=True)
def nothing_known():
    repeated._known.clear()
    repeated._counts.clear()


def numbers(rng, *shape, dtype="float32"):
    return rng.standard_normal(shape).astype(dtype)


def pooled(rng, relu=False):
    forward = functional.relu_max_pool2d if relu else functional.max_pool2d
    y, *kept = forward(numbers(rng, 2, 3, 6, 6), 2, return_mask=True)
    return (numbers(rng, *y.shape), *kept, (2, 3, 6, 6), 2)


def probabilities(rng):
    return functional.softmax(numbers(rng, 4, 5))


# Operation -> new arguments, and its keywords.
CALLS = {
    "conv2d": (
        lambda rng: (numbers(rng, 1, 1, 5, 5), numbers(rng, 2, 1, 2, 2), numbers(rng, 2)),
        {"padding": "same"},
    ),
    "conv2d_input_grad": (
        lambda rng: (numbers(rng, 2, 2, 3, 3), numbers(rng, 2, 3, 3, 3), (2, 3, 6, 6)),
        {"stride": (2, 2), "padding": 1},
    ),
    "conv2d_weight_grad": (
        lambda rng: (numbers(rng, 3, 6, 6), numbers(rng, 2, 4, 4), (2, 3, 3, 3)),
        {},
    ),
    "conv2d_bias_grad": (lambda rng: (numbers(rng, 2, 3, 4, 4),), {"per_pixel": True}),
    "max_pool2d": (lambda rng: (numbers(rng, 2, 3, 6, 6), 2), {"return_mask": True}),
    "max_pool2d_grad": (pooled, {}),
    "relu_max_pool2d": (lambda rng: (numbers(rng, 2, 3, 7, 7), 3, 2), {"return_mask": True}),
    "relu_max_pool2d_grad": (lambda rng: pooled(rng, relu=True), {}),
    "relu": (lambda rng: (numbers(rng, 3, 4),), {}),
    "relu_grad": (lambda rng: (numbers(rng, 3, 4), numbers(rng, 3, 4)), {"at_zero": 0.0}),
    "sigmoid": (lambda rng: (numbers(rng, 3, 4),), {}),
    "softmax": (lambda rng: (numbers(rng, 3, 4),), {"axis": 0}),
    "softmax_grad": (lambda rng: (numbers(rng, 3, 4), probabilities(rng)[:3, :4].copy()), {}),
    "dense": (lambda rng: (numbers(rng, 3, 4), numbers(rng, 5, 4), numbers(rng, 5)), {}),
    "dense_input_grad": (lambda rng: (numbers(rng, 3, 5), numbers(rng, 5, 4)), {}),
    "dense_weight_grad": (lambda rng: (numbers(rng, 3, 4), numbers(rng, 3, 5)), {}),
    "dense_bias_grad": (lambda rng: (numbers(rng, 3, 5),), {}),
    "categorical_cross_entropy": (
        lambda rng: (probabilities(rng), rng.integers(0, 5, 4)),
        {"reduction": "none"},
    ),
    "categorical_cross_entropy_grad": (
        lambda rng: (probabilities(rng), rng.integers(0, 5, 4)),
        {},
    ),
    "categorical_cross_entropy_with_logits": (
        lambda rng: (numbers(rng, 4, 5), probabilities(rng)),
        {},
    ),
    "half_squared_error": (lambda rng: (numbers(rng, 4, 5), numbers(rng, 4, 5)), {}),
}


def bits(result):
    parts = result if isinstance(result, tuple) else (result,)
    return [(np.shape(part), np.asarray(part).dtype, np.asarray(part).tobytes()) for part in parts]


def all_known():
    return [known for several in repeated._known.values() for known in several]


def listen(monkeypatch):
    """What the one recipe's runs return from now on."""
    (known,) = all_known()
    told = []

    def run(*things):
        told.append(known.run(*things))
        return told[-1]

    spied = {key: [known._replace(run=run)] for key in repeated._known}
    monkeypatch.setattr(repeated, "_known", spied)
    return told


def known_operations():
    return {loads(known.form)[0] for known in all_known()}


@pytest.mark.parametrize("operation", CALLS)
def test_the_same_bits_on_new_arrays(operation):
    make, keywords = CALLS[operation]
    rng = np.random.default_rng(0)
    sets = [make(rng) for _ in range(ENOUGH + 3)]
    call = getattr(functional, operation)
    expected = []
    for arguments in sets:
        repeated._counts.clear()  # the long way every time
        expected.append(bits(call(*arguments, **keywords)))
    assert operation not in known_operations()
    assert [bits(call(*arguments, **keywords)) for arguments in sets] == expected
    assert operation in known_operations()


def test_a_shared_bias_is_no_bias_of_one_number():
    x, w = np.ones((2, 4), np.float32), np.ones((5, 4), np.float32)
    for _ in range(ENOUGH):
        functional.dense(x, w, np.broadcast_to(np.ones(1, np.float32), (5,)))
    with pytest.raises(ValueError, match=r"b must have shape \(5,\)"):
        functional.dense(x, w, np.ones(1, np.float32))


def test_numbers_of_other_types_are_not_taken_for_each_other():
    dy, x = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    same_bytes = np.float32(1).view(np.int32)
    for _ in range(ENOUGH):
        assert functional.relu_grad(dy, x, at_zero=np.float32(1)).all()
    try:
        result = functional.relu_grad(dy, x, at_zero=same_bytes)
    except (TypeError, ValueError):
        result = np.zeros(1)
    assert (result != 1).all()
    for _ in range(ENOUGH):
        functional.softmax(x, axis=np.int8(-1))
    with pytest.raises(ValueError, match="255"):
        functional.softmax(x, axis=np.uint8(255))


def test_a_full_store_keeps_what_it_has(monkeypatch):
    monkeypatch.setattr(repeated, "_KEPT", 1)
    x = np.ones((3, 4), np.float32)
    for _ in range(ENOUGH):
        functional.relu(x)
    frozen = x.copy()
    frozen.flags.writeable = False
    functional.relu(frozen)
    assert known_operations() == {"relu"}
    for _ in range(ENOUGH):
        functional.sigmoid(x)
    assert known_operations() == {"sigmoid"}


def test_results_are_new_arrays():
    x = np.ones((3, 4), np.float32)
    results = [functional.relu(x) for _ in range(ENOUGH + 2)]
    assert not any(np.shares_memory(results[-1], other) for other in (x, *results[:-1]))


def conv_arguments():
    rng = np.random.default_rng(1)
    return numbers(rng, 1, 1, 5, 5), numbers(rng, 2, 1, 2, 2), numbers(rng, 2)


def repeat_conv(**keywords):
    x, w, b = conv_arguments()
    for _ in range(ENOUGH):
        y = functional.conv2d(x, w, b, **keywords)
    assert known_operations() == {"conv2d"}
    return x, w, b, y


def test_other_forms_of_the_same_arrays():
    x, w, b, y = repeat_conv()
    frozen = x.copy()
    frozen.flags.writeable = False
    wide = np.zeros((1, 1, 5, 10), np.float32)
    wide[..., ::2] = x
    room = np.zeros(x.nbytes + 1, np.uint8)
    crooked = room[1:].view(np.float32).reshape(x.shape)
    crooked[...] = x
    forms = [
        frozen, wide[..., ::2], np.asfortranarray(x[0, 0]).reshape(x.shape), crooked,
        x.astype(">f4"), x.view(np.recarray),
    ]  # fmt: skip
    for form in forms:
        assert bits(functional.conv2d(form, w, b)) == bits(y)
    double = functional.conv2d(*(a.astype("float64") for a in (x, w, b)))
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, y, rtol=1e-5, atol=1e-6)


def test_calls_that_differ_in_a_later_array():
    x, w, b, y = repeat_conv()
    filters, biases = np.concatenate([w, w[:1]]), np.concatenate([b, b[:1]])
    for _ in range(ENOUGH):
        more = functional.conv2d(x, filters, biases)
        without = functional.conv2d(x, w)
        double = functional.conv2d(*(a.astype("f8") for a in (x, w, b)))
    assert len(all_known()) == 4
    assert bits(functional.conv2d(x, w, b)) == bits(y) == bits(more[:, :2])
    np.testing.assert_allclose(without + b.reshape(2, 1, 1), y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(double, y, rtol=1e-5, atol=1e-6)
    for other in (b.tolist(), np.array(1, np.float32), "b", 7, w):
        with pytest.raises((TypeError, ValueError)):
            functional.conv2d(x, w, other)


def test_errors_are_still_errors():
    x, w, b, _ = repeat_conv(stride=1)
    with pytest.raises(TypeError, match="stride must be an int"):
        functional.conv2d(x, w, b, stride=True)
    with pytest.raises(TypeError, match="stride must be an int"):
        functional.conv2d(x, w, b, stride=1.0)
    with pytest.raises(TypeError, match="mixed types"):
        functional.conv2d(x, w.astype("float64"), b, stride=1)
    with pytest.raises(TypeError, match="masked array"):
        functional.conv2d(np.ma.masked_array(x), w, b, stride=1)
    with pytest.raises(ValueError, match="expected bias"):
        functional.conv2d(x, w, b[:1], stride=1)
    with pytest.raises(ValueError, match="algorithm"):
        functional.conv2d(x, w, b, stride=1, algorithm="none")


def test_out_is_written():
    x, w, b, y = repeat_conv()
    out = np.zeros_like(y)
    assert functional.conv2d(x, w, b, out=out) is out
    np.testing.assert_array_equal(out, y)


@pytest.mark.parametrize("label", [-1, 5])
@pytest.mark.parametrize("name", ["", "_grad", "_with_logits", "_with_logits_grad"])
def test_labels_that_are_no_class(name, label):
    p, labels = probabilities(np.random.default_rng(2)), np.array([0, 1, 4, 2])
    call = getattr(functional, f"categorical_cross_entropy{name}")
    for _ in range(ENOUGH):
        call(p, labels)
        labels[3] = label
        with pytest.raises(
            ValueError, match=rf"labels must be in 0..4, but got {label} \(y\[3\]\)"
        ):
            call(p, labels)
        labels[3] = 2
    p[0] = np.nan
    assert np.isnan(call(p, labels)).any()


def test_masks_that_name_no_cell():
    rng = np.random.default_rng(3)
    dy, mask, *window = pooled(rng)
    for _ in range(ENOUGH):
        functional.max_pool2d_grad(dy, mask, *window)
    mask[0, 0, 0, :2] = 200
    with pytest.raises(ValueError, match="mask has 2 entries"):
        functional.max_pool2d_grad(dy, mask, *window)


def test_precision_and_implementations_count(monkeypatch):
    x, w, b, y = repeat_conv()
    seen = []
    portable = selection.IMPLEMENTATIONS["conv2d"][0]

    class Seen(type(portable)):
        def load(self, operation):
            def run(*arguments, **options):
                seen.append(operation)
                return portable.load(operation)(*arguments, **options)

            return run

    mine = Seen("mine", portable.module, portable.supports, lambda problem: 0.0, portable.workspace)
    monkeypatch.setitem(selection.IMPLEMENTATIONS, "conv2d", [mine])
    with precision("ieee"):
        functional.conv2d(x, w, b)
    assert seen == ["conv2d"]
    with plans.only("conv2d", mine):
        functional.conv2d(x, w, b)
    assert len(seen) == 2
    plans.forget()
    functional.conv2d(x, w, b)
    assert len(seen) == 3
    monkeypatch.undo()
    plans.forget()
    assert bits(functional.conv2d(x, w, b)) == bits(y)


def test_what_is_prescribed_has_no_recipe():
    """Recipes made within `only` would serve within another."""
    x, w, b = conv_arguments()
    chosen = selection.choose(Problem("relu", Extent(x.shape), "float32"))
    with plans.only("relu", chosen):
        for _ in range(ENOUGH):
            functional.relu(x)
            functional.conv2d(x, w, b)
    assert not repeated._known


def test_arrays_that_were_pickled(monkeypatch):
    """The objects of their types are not NumPy's own."""
    x, w, b = conv_arguments()
    sent = pickle.loads(pickle.dumps(x))
    assert sent.dtype is not x.dtype
    for _ in range(ENOUGH):
        y = functional.conv2d(sent, w, b)
    told = listen(monkeypatch)
    assert bits(functional.conv2d(x, w, b)) == bits(y)
    assert bits(functional.conv2d(sent, w, b)) == bits(y)
    assert told == [0, 0]


def test_types_that_only_look_alike(monkeypatch):
    """Bytes in the other order, and integers of as many bytes, are not what the recipe is for."""
    rng = np.random.default_rng(3)
    z = rng.standard_normal((2, 3)).astype(np.float32)
    dy = np.ones_like(z)
    for _ in range(ENOUGH):
        functional.relu_grad(dy, z)
    told = listen(monkeypatch)
    other = z.astype(z.dtype.newbyteorder())
    assert bits(functional.relu_grad(dy, other)) == bits(functional.relu_grad(dy, z))
    with pytest.raises(TypeError):
        functional.relu_grad(dy, z.view(np.int32))
    assert [number != number for number in told] == [True, False, True]


def test_a_second_chance_of_a_recipe():
    """The eighth call met a NaN, so that another algorithm launched its kernels."""
    call, first = shared_call("winograd", np.random.default_rng(9))
    for number in range(1, 17):
        kept, first[0, 0, 0, 0] = first[0, 0, 0, 0], np.nan if number == 8 else 1
        call()
        assert bool(repeated._known) == (number == 16)
        first[0, 0, 0, 0] = kept


def test_launches_are_recorded():
    x, w, b, y = repeat_conv()
    with recording() as tape:
        z = functional.conv2d(x, w, b)
    assert tape.launches
    z[...] = np.nan
    tape.run()
    np.testing.assert_array_equal(z, y)


def test_threads_at_once():
    rng = np.random.default_rng(4)
    sets = [CALLS["conv2d_input_grad"][0](rng) for _ in range(8)]
    keywords = CALLS["conv2d_input_grad"][1]
    expected = [bits(functional.conv2d_input_grad(*s, **keywords)) for s in sets]

    def work(i):
        results = (functional.conv2d_input_grad(*sets[i], **keywords) for _ in range(200))
        return all(bits(result) == expected[i] for result in results)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


@kernel
def doubled(task, x, y):
    for i in range(len(x)):
        y[i] = 2 * x[i]


def test_what_numpy_touches_has_no_recipe():
    x = np.arange(4, dtype=np.float32)
    y = 2 * x

    def plain(x, y):
        launch(doubled, 1, 0, x, y)

    def through_numpy(x, y):
        scratch = x + 0
        launch(doubled, 1, 0, scratch, y)

    def afterwards(x, y):
        launch(doubled, 1, 0, x, y)
        y += x

    def returns(x, y):
        launch(doubled, 1, 0, x, y)
        return 1

    def unseen(x, y):
        launch(doubled, 1, 0, x, y)
        y += 0 * x if (x == np.arange(4)).all() else x

    made = recipe_of(plain, [x], [y])
    again = np.empty_like(y)
    other = x + 1
    assert made.run(id(other), id(again)) == 0
    np.testing.assert_array_equal(again, 2 * (x + 1))
    assert recipe_of(through_numpy, [x], [y]) is None
    assert recipe_of(afterwards, [x], [3 * x]) is None
    assert recipe_of(unseen, [x], [y]) is None
    assert recipe_of(returns, [x], [y]) is None


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(repeated, "_KEPT", 3)
    for n in range(1, 9):
        functional.relu(np.ones(n, np.float32))
    assert len(repeated._counts) <= 3


# Algorithm -> operation, problem: calls of several launches, which threads share.
SHARED = {
    "winograd": ("conv2d", "n1c32h26k64r3p1"),
    "winograd, input grad": ("conv2d_input_grad", "n1c32h26k64r3p1"),
    "winograd, weight grad": ("conv2d_weight_grad", "n1c32h26k64r3"),
    "winograd of phases": ("conv2d", "n1c32h26k32r3d2p2"),
    "winograd, a block a task": ("conv2d", "n8c16h30k16r3p1"),
    "winograd_strided": ("conv2d", "n1c32h28k32r3st2p1"),
    "winograd_strided, input grad": ("conv2d_input_grad", "n1c32h28k32r3st2p1"),
    "fourier": ("conv2d", "n1c24h24k24r7p3"),
    "fourier, input grad": ("conv2d_input_grad", "n1c24h24k24r7p3"),
    "fourier, weight grad": ("conv2d_weight_grad", "n1c24h24k24r7p3"),
    "winograd, both gradients": ("conv2d_parameter_grads", "n1c32h26k64r3"),
    "small_channel, both gradients": ("conv2d_parameter_grads", "n4c1h28k16r5"),
    "implicit_gemm": ("conv2d", "n8c24h20k30r3st3"),
    "small_channel": ("conv2d_weight_grad", "n4c1h28k16r5"),
    "depthwise": ("conv2d", "n2c64h20k64r3p1g64"),
}


def shared_call(name, rng):
    """A call of one of SHARED on new arrays, and the first of them."""
    operation, text = SHARED[name]
    problem, algorithm = parse(text), name.split(",")[0].replace(" of ", "_")
    g = problem.geometry
    x, w, dy = (numbers(rng, *s) for s in (g.input_shape, g.weight_shape, g.output_shape))
    arguments = {
        "conv2d": (x, w, numbers(rng, g.K)),
        "conv2d_input_grad": (dy, w, g.input_shape),
        "conv2d_weight_grad": (x, dy, g.weight_shape),
        "conv2d_parameter_grads": (x, dy, g.weight_shape),
    }[operation]
    call = partial(getattr(functional, operation), *arguments, algorithm=algorithm)
    return partial(call, **problem.options), arguments[0]


@pytest.fixture
def own_threads():
    before = fastcnn.get_num_threads()
    yield
    fastcnn.set_num_threads(before)


@pytest.mark.parametrize("name", SHARED)
def test_launches_that_threads_share(name, own_threads):
    rng = np.random.default_rng(5)
    calls = [shared_call(name, rng)[0] for _ in range(ENOUGH + 3)]
    for threads in (2, 1, 3):
        fastcnn.set_num_threads(threads)
        expected = []
        for call in calls:
            repeated._counts.clear()
            repeated._known.clear()
            expected.append(bits(call()))
        assert [bits(call()) for call in calls] == expected
        (known,) = all_known()
        assert known.recipe.threads == min(threads, config.NUMBA_NUM_THREADS)


def test_another_number_of_threads_has_another_recipe(own_threads):
    call, _ = shared_call("winograd", np.random.default_rng(6))
    fastcnn.set_num_threads(2)
    expected = bits(call())
    for _ in range(ENOUGH):
        call()
    (first,) = all_known()
    fastcnn.set_num_threads(1)
    assert first.recipe.stale
    assert all(bits(call()) == expected for _ in range(ENOUGH))
    (second,) = all_known()
    assert (second.recipe.threads, second.recipe.stale) == (1, False)


@pytest.mark.parametrize("name", [name for name in SHARED if name[0] in "wf"])
@pytest.mark.parametrize("number", [np.nan, np.inf, 1e35])
def test_numbers_that_a_transform_cannot_take(name, number, monkeypatch):
    """The recipe says so, and the call is made the long way, which leaves it to implicit GEMM."""
    call, first = shared_call(name, np.random.default_rng(7))
    plain = bits(call())
    for _ in range(ENOUGH):
        call()
    kept = first[0, 0, 3, 3]
    first[0, 0, 3, 3] = number
    told, remarks = listen(monkeypatch), []
    monkeypatch.setattr(plans, "trace", remarks.append)
    result = bits(call())
    assert told[0] > 0
    assert remarks
    repeated._known.clear()
    assert bits(call()) == result
    first[0, 0, 3, 3] = kept
    assert bits(call()) == plain


def test_threads_at_once_that_share_launches(own_threads):
    fastcnn.set_num_threads(2)
    rng = np.random.default_rng(8)
    calls = [shared_call("winograd", rng)[0] for _ in range(8)]
    expected = [bits(call()) for call in calls]
    for _ in range(ENOUGH):
        calls[0]()
    assert repeated._known

    def work(i):
        return all(bits(calls[i]()) == expected[i] for _ in range(60))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_a_large_call_has_no_recipe(monkeypatch):
    monkeypatch.setattr(repeated, "_MOST_BYTES", 100)  # two arrays of 12 floats have 96
    x = np.ones((3, 4), np.float32)
    for _ in range(ENOUGH):
        functional.relu(x)
    assert known_operations() == {"relu"}
    for _ in range(ENOUGH):
        functional.relu(np.ones((3, 5), np.float32))
    assert len(repeated._known) == 1
