"""Two numbers from one image, for the lecture's plain network with two inputs."""

import numpy as np


def two_means(x: np.ndarray) -> np.ndarray:
    """Return the mean brightness of the upper and of the lower half of each image.

    ``small_ann`` has two inputs where the CNN beside it has an image; these are the two. With
    h = floor(H / 2), which leaves out the middle row of an odd height::

        f[n, 0] = mean of x[n, 0, :h]        f[n, 1] = mean of x[n, 0, H - h :]

    Parameters
    ----------
    x : ndarray of float32 or float64, (N, 1, H, W)
        Grey images of at least two rows and one column.

    Returns
    -------
    ndarray, (N, 2)
        Of the type of `x`; the sums are taken in float64.

    Raises
    ------
    TypeError
        If `x` is not float32 or float64.
    ValueError
        If its shape is another.
    """
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}: use x.astype(np.float32)")
    if x.ndim != 4 or x.shape[1] != 1 or x.shape[2] < 2 or x.shape[3] < 1:
        raise ValueError(f"x must be (N, 1, H, W) with H >= 2 and W >= 1, got {x.shape}")
    half = x.shape[2] // 2
    upper = x[:, 0, :half].mean(axis=(1, 2), dtype=np.float64)
    lower = x[:, 0, x.shape[2] - half :].mean(axis=(1, 2), dtype=np.float64)
    return np.stack([upper, lower], axis=1).astype(x.dtype)
