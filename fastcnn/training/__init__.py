"""Networks and their training: Sequential, optimizers, History, callbacks."""

from .callbacks import Callback, LearningRateScheduler
from .history import History
from .optimizers import SGD, Adam, Optimizer
from .progress import ProgressBar, ProgressLines
from .sequential import Sequential
from .weights import load_weights, save_weights

__all__ = [
    "SGD",
    "Adam",
    "Callback",
    "History",
    "LearningRateScheduler",
    "Optimizer",
    "ProgressBar",
    "ProgressLines",
    "Sequential",
    "load_weights",
    "save_weights",
]
