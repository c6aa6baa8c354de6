"""Which training steps are the same as earlier ones, and what is kept to repeat them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fastcnn.functional.replay import conditions

if TYPE_CHECKING:
    from .optimizers import Optimizer
    from .sequential import Sequential

Step = TypeVar("Step")

# Kinds of steps that are counted, a few hundred bytes each. Whoever trains on more of them in turn
# gets plain steps.
_MOST_SEEN = 256


def kind_of_step(network: Sequential, *batch: Any) -> tuple[Any, ...] | None:
    """What a step depends on besides arrays' contents; None where none should be repeated.

    Parameters
    ----------
    *batch
        What tells its arrays apart: their shapes, and types if they vary.
    """
    where = conditions()
    if where is None:
        return None
    settings = [getattr(layer, name) for layer, name in network._settings]
    return (*batch, network.loss, where, *settings)


class Repeats(Generic[Step]):
    """What a network keeps by kind of step; of those used last, and empty where it is copied.

    Parameters
    ----------
    warm_up : int
        Steps of a kind, of which the last is the first that may be kept.
    most : int
        Steps that are kept. The one that was not used for longest goes, and is counted anew.
    """

    def __init__(self, warm_up: int, most: int) -> None:
        self._warm_up, self._most = warm_up, most
        self.kept: OrderedDict[Any, Step] = OrderedDict()
        # of all other kinds: steps so far; None if they cannot be repeated
        self.seen: OrderedDict[Any, int | None] = OrderedDict()

    def __deepcopy__(self, memo: Any) -> Repeats[Step]:
        return Repeats(self._warm_up, self._most)

    def __reduce__(self) -> Any:
        return Repeats, (self._warm_up, self._most)

    def find(self, kind: Any) -> Step | None:
        """What is kept for a kind of step."""
        step = self.kept.get(kind)
        if step is not None:
            self.kept.move_to_end(kind)
        return step

    def due(self, kind: Any) -> bool:
        """Count a step that nothing is kept for; whether something should now be."""
        steps = self.seen.get(kind, 0)
        if steps is not None:
            steps += 1
        self._see(kind, steps)
        return steps is not None and steps >= self._warm_up

    def refuse(self, kind: Any) -> None:
        """Steps of this kind cannot be repeated: none is due any more."""
        self._see(kind, None)

    def _see(self, kind: Any, steps: int | None) -> None:
        self.seen[kind] = steps
        self.seen.move_to_end(kind)
        if len(self.seen) > _MOST_SEEN:
            self.seen.popitem(last=False)

    def keep(self, kind: Any, step: Step) -> None:
        """Keep what repeats a step of this kind."""
        del self.seen[kind]
        self.kept[kind] = step
        if len(self.kept) > self._most:
            self.kept.popitem(last=False)

    def forget(self, kind: Any) -> None:
        """Let go of what is kept for a kind: the next step of it is due."""
        del self.kept[kind]
        self._see(kind, self._warm_up - 1)


class Updated:
    """An optimizer with the memory that it has now, which a repeated step writes to."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer, self._memory = optimizer, list(optimizer.state.values())

    def is_by(self, optimizer: Optimizer) -> bool:
        """Whether it is the same optimizer, and has the same memory still."""
        memory = optimizer.state.values()
        return (
            optimizer is self._optimizer
            and len(memory) == len(self._memory)
            and all(a is b for a, b in zip(memory, self._memory, strict=True))
        )
