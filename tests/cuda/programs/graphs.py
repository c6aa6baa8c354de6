"""Training steps repeated from what was launched in one: the plain steps' bits, and its limits."""

import copy
import pickle
import sys

import numpy as np

import fastcnn
from fastcnn.kernels.cuda import graphs, memory, target
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU
from fastcnn.training import SGD, Adam, step_graphs

sys.setswitchinterval(1e-5)


def network(optimizer, loss="categorical_cross_entropy"):
    last = Dense(2, activation="softmax" if loss.startswith("cat") else "sigmoid")
    layers = [Conv2D(1, 2, activation="relu"), MaxPool2D(2), Flatten(), ReLU(), last]
    return fastcnn.Sequential(
        layers, loss=loss, optimizer=optimizer, backend="cuda", input_shape=(1, 3, 3)
    )


def made(net):
    return list(net._graphs._steps.kept.values())


def bits(net):
    return [values.tobytes() for values in net.state_dict().values()]


def plain(net):
    net._graphs.step = lambda *_: None
    return net


rng = np.random.default_rng(0)
x = rng.standard_normal((12, 1, 3, 3), np.float32)
classes, rows = rng.integers(0, 2, 12), rng.random((12, 2), np.float32)

CASES = [
    (lambda: Adam(0.01), "categorical_cross_entropy", classes),
    (lambda: SGD(0.1, 0.9, nesterov=True), "binary_cross_entropy", rows),
]
for optimizer, loss, y in CASES:
    one, other = network(optimizer(), loss), plain(network(optimizer(), loss))
    captured = []
    for number in range(5):
        at = slice(2 * number, 2 * number + 2)
        if number == 3:  # rates are no part of a graph
            one.optimizer.learning_rate = other.optimizer.learning_rate = 0.02
        place = fastcnn.to_device if number % 2 else np.array
        figures = one._step(place(x[at]), place(y[at]))
        want = other._step(x[at], y[at])
        captured.append(one.captured)
        if number == 2:
            kept, gradients = figures, one.gradients()
            kept_want, gradients_want = want, other.gradients()
        assert {n: float(f) for n, f in figures.items()} == {
            n: float(f) for n, f in want.items()
        }, (loss, number)
        assert bits(one) == bits(other), (loss, number)
        assert one.optimizer.iterations == other.optimizer.iterations
    assert captured == [False, True, True, True, True], captured
    assert not other.captured
    # neither figures nor gradients of a step are those of a later one
    assert {n: float(f) for n, f in kept.items()} == {n: float(f) for n, f in kept_want.items()}
    for name, gradient in gradients.items():
        assert np.array_equal(fastcnn.to_host(gradient), fastcnn.to_host(gradients_want[name]))
print("the same bits")

# what a graph holds: all launches of a step, in order, on one set of arrays
(graph,) = made(one)
launches = graph._work._work.graph.launches
counted = [recorded.program.kernel.function.__name__ for recorded in launches]
assert counted[-4:] == ["_momentum"] * 4, counted
assert counted.count("_forward") == 2, counted
allocated = memory._new
memory._new = lambda *_: 1 / 0 if memory._arena.get() else allocated(*_)
one._step(x[:2], rows[:2])
memory._new = allocated
print(f"{len(launches)} launches, and nothing allocated for them")

# other batches get other graphs, bad labels the plain step's error, and a copy starts anew
one._step(x[:3], rows[:3])
assert not one.captured
one._step(x[:3], rows[:3])
assert one.captured
assert len(made(one)) == 2
# of the same launches: no copy of a gradient, which only whoever asks for it gets
assert [g.launches for g in made(one)] == [len(launches)] * 2, [g.launches for g in made(one)]
for wrong in (np.array([0, 7]), np.array([[2.0, 0], [0, 0]], np.float32), rows[:3]):
    try:
        one.train_on_batch(x[:2], wrong)
    except (TypeError, ValueError) as error:
        print(type(error).__name__, error)
assert not made(copy.deepcopy(one))
assert not pickle.loads(pickle.dumps(one._graphs))._steps.kept

# another optimizer: its memory is another
one.compile(SGD(0.1))
other.compile(SGD(0.1))
other.load_state_dict(one.state_dict())
for _ in range(3):
    assert float(one._step(x[:2], rows[:2])["loss"]) == float(other._step(x[:2], rows[:2])["loss"])
assert one.captured
assert bits(one) == bits(other)


# what cannot be a graph stays plain
class Own(Dense):
    pass


def steps(net):
    said = []
    step_graphs.say = said.append
    for _ in range(3):
        net._step(x[:2], rows[:2])
    assert not net.captured
    return said


inherited = fastcnn.Sequential(
    [Flatten(), Own(2)], loss="half_squared_error", backend="cuda", optimizer=SGD()
)
assert steps(inherited) == []
step_graphs._MOST_BYTES = 100
print(*steps(network(SGD())))
step_graphs._MOST_BYTES = 1 << 20
looking = network(SGD())
backward = looking._backward_parameters
looking._backward_parameters = lambda loss, dy: (fastcnn.to_host(dy), backward(loss, dy))
print(*steps(looking))
assert not target.is_recording()
assert graphs.stream() == 0
