"""What is kept of steps: of which kinds, how many, and for whom."""

import copy
import pickle

import numpy as np

from fastcnn.training import SGD, repeats
from fastcnn.training.repeats import Repeats, Updated


def kept(most, kinds):
    steps = Repeats(1, most)
    for kind in kinds:
        assert steps.due(kind)
        steps.keep(kind, f"step {kind}")
    return steps


def test_the_first_steps_of_a_kind_are_counted():
    steps = Repeats(3, 4)
    assert [steps.due("a"), steps.due("b"), steps.due("a"), steps.due("a")] == [0, 0, 0, 1]
    assert steps.due("a"), "until something is kept"
    assert not steps.due("b")


def test_what_was_not_used_for_longest_goes_and_is_counted_anew():
    steps = kept(2, "ab")
    assert steps.find("a") == "step a"
    assert steps.due("c")
    steps.keep("c", "step c")
    assert [steps.find(kind) for kind in "abc"] == ["step a", None, "step c"]
    assert not steps.seen
    assert steps.due("b")


def test_kinds_that_are_only_seen_are_forgotten_too(monkeypatch):
    monkeypatch.setattr(repeats, "_MOST_SEEN", 3)
    steps = Repeats(2, 4)
    for kind in "abc":
        steps.due(kind)
    assert steps.due("a")
    steps.refuse("b")
    steps.due("d")
    assert list(steps.seen) == ["a", "b", "d"], "the least recently seen goes"
    assert not steps.due("b")
    assert not steps.due("c")


def test_what_cannot_be_repeated_is_never_due():
    steps = Repeats(1, 4)
    assert steps.due("a")
    steps.refuse("a")
    assert not any(steps.due("a") for _ in range(5))


def test_what_no_longer_holds_is_due_at_once():
    steps = Repeats(2, 4)
    steps.due("a")
    assert steps.due("a")
    steps.keep("a", "step a")
    steps.forget("a")
    assert steps.find("a") is None
    assert steps.due("a")


def test_copies_are_empty_and_like_it():
    steps = kept(2, "ab")
    for other in copy.deepcopy(steps), pickle.loads(pickle.dumps(steps)):
        assert not other.kept
        assert other.due("a")
        other.keep("a", "step a")
    assert len(steps.kept) == 2


def test_another_memory_of_the_same_optimizer_is_another():
    optimizer, w = SGD(0.1, 0.9), {"w": np.ones(2, np.float32)}
    optimizer.step(w, w)
    updated = Updated(optimizer)
    optimizer.step(w, w)
    assert updated.is_by(optimizer)
    assert not updated.is_by(copy.deepcopy(optimizer))
    optimizer.state = {
        name: tuple(map(np.copy, arrays)) for name, arrays in optimizer.state.items()
    }
    assert not updated.is_by(optimizer)
