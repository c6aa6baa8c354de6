"""Hold part of a data set back for testing."""

import numpy as np


def split(
    x: np.ndarray, y: np.ndarray, held_out: float = 0.25, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shuffle and split, every class in the same proportion.

    Of a class with n images, floor(held_out * n + 1/2) are held out, but at most n - 1, so that
    training sees each class. The same arguments always give the same split.

    Parameters
    ----------
    x : ndarray, (N, ...)
    y : ndarray, (N,) or (N, 1)
        One label per image, of any type that can be compared.
    held_out : float
        The part to hold out, above 0 and below 1.
    seed : int
        Seeds ``numpy.random.default_rng``.

    Returns
    -------
    x_train, y_train, x_test, y_test : ndarray
        Copies, in shuffled order.

    Raises
    ------
    ValueError
        If the lengths differ, labels are not one per image or hold NaN, `held_out` is out of
        range, or so little is left that nothing would be held out.
    """
    x, y = np.asarray(x), np.asarray(y)
    if y.ndim not in (1, 2) or y.shape[1:] not in ((), (1,)):
        raise ValueError(
            f"y must hold one label per image, (N,) or (N, 1), got {y.shape}; "
            "for one-hot rows split with y.argmax(axis=1)"
        )
    if x.ndim < 1 or len(x) != len(y):
        raise ValueError(f"x and y must be equally long, got shapes {x.shape} and {y.shape}")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must be above 0 and below 1, got {held_out!r}")
    labels = y.reshape(-1)
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ValueError("y holds NaN")
    order = np.random.default_rng(seed).permutation(len(labels))
    is_test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        count = min(int(held_out * len(members) + 0.5), len(members) - 1)
        is_test[members[:count]] = True
    if not is_test.any():
        raise ValueError(f"{len(labels)} images are too few to hold out {held_out!r} of each class")
    train, test = order[~is_test[order]], order[is_test[order]]
    return x[train], y[train], x[test], y[test]
