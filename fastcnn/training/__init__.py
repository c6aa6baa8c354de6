"""Networks and their training: Sequential, optimizers, History, callbacks."""

from .callbacks import Callback
from .history import History
from .optimizers import SGD, Adam, Optimizer
from .progress import ProgressBar, ProgressLines
from .sequential import Sequential

__all__ = [
    "SGD",
    "Adam",
    "Callback",
    "History",
    "Optimizer",
    "ProgressBar",
    "ProgressLines",
    "Sequential",
]
