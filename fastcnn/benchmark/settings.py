"""How a run is done: rounds, time per round, and when to stop adding more."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Numbers of a run.

    Attributes
    ----------
    threads : tuple of int
    peers : tuple of str
        Libraries beside fastcnn: keys of `sides.LIBRARIES`.
    implementations : bool
        Also measure what the selection lists have besides the automatic choice.
    together : int
        So many cases, each on a number of threads, are prepared at once and have every round one
        after the other.
    rounds, most_rounds : int
        Every side gets so many rounds; then more, while a spread is above `spread`.
    seconds : float
        Of calls, per side and round; one call at the least.
    spread : float
        The width of the median's interval, relative to the median, at which rounds may end. Asked
        of work that takes a millisecond or more.
    pause : float
        Seconds at most that a side is waited for after its turn, until its threads sleep.
    patience : float
        Seconds that a side which is more than twice as slow as ours may take in one case, once it
        has had three rounds. Close contests get all their rounds whatever they take.
    deadline : float or None
        Cases that have not begun by then, in seconds, are left out, and named.
    limits_every : float
        Seconds after which the machine's limits are measured again.
    device : str
        "cpu", or "cuda": arrays on a GPU, timed by its clock.
    precision : str
        What both sides compute in on a GPU: a name that `fastcnn.precision` takes.
    """

    threads: tuple[int, ...] = (1,)
    peers: tuple[str, ...] = ()
    implementations: bool = True
    together: int = 1
    rounds: int = 8
    most_rounds: int = 24
    seconds: float = 0.05
    spread: float = 0.05
    pause: float = 0.2
    patience: float = 3.0
    deadline: float | None = None
    limits_every: float = 120.0
    device: str = "cpu"
    precision: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def quick(threads: tuple[int, ...], peers: tuple[str, ...]) -> Settings:
    """Of `--quick`: two minutes on two cores, every peer beside us, eight rounds and more each.

    Short turns and little patience with those far behind leave time for more rounds, and all
    cases are measured together, so that rounds are spread over the whole run.
    """
    return Settings(
        threads,
        peers,
        implementations=False,
        together=100,
        rounds=16,
        most_rounds=40,
        seconds=0.01,
        patience=0.1,
        deadline=100.0,
        limits_every=40.0,
    )


def check_precision(device: str, dtype: str, precision: str) -> None:
    """ValueError for a precision that not all sides would compute in, and be judged by."""
    if device == "cpu" and precision != "float32":
        raise ValueError(
            f"precision {precision!r} is for --device cuda: processors compute in the arrays' type"
        )
    if dtype != "float32" and precision not in ("ieee", "float32"):
        raise ValueError(f"precision {precision!r} is for arrays of float32, not of {dtype}")
