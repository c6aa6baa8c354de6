"""Faces and other things: the 200 grey images that come with scikit-image."""

import numpy as np
import numpy.typing as npt

from .checks import float_type, needs

FACES = 100  # the first hundred are faces, the others are not


def faces(*, size: int = 25, dtype: npt.DTypeLike = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Return the 100 faces and 100 non-faces of scikit-image's ``lfw_subset``.

    The file lies inside the installed package; nothing is downloaded.

    Parameters
    ----------
    size : 25 or 6
        25 gives the images as they are. 6 gives means over 4x4 blocks of the centre 24x24
        (rows and columns 0..23: of the two centres of an odd length, the first).
    dtype : "float32" or "float64"

    Returns
    -------
    x : ndarray, (200, 1, size, size)
        Brightness from 0 to 1.
    y : ndarray of int64, (200,)
        1 for a face, 0 otherwise: first all faces, then all others.

    Raises
    ------
    ValueError
        For another size or dtype.
    ImportError
        If scikit-image is missing.
    """
    float_dtype = float_type(dtype)
    if size not in (6, 25):
        raise ValueError(f"size must be 25 (the whole image) or 6 (4x4 means), got {size!r}")
    with needs("scikit-image", "the faces"):
        from skimage.data import lfw_subset
    images = np.asarray(lfw_subset(), dtype=np.float64)
    y = (np.arange(len(images)) < FACES).astype(np.int64)
    if size == 6:
        # mean[n, i, j] = (1/16) sum over r, s = 0..3 of image[n, 4i + r, 4j + s]
        images = images[:, :24, :24].reshape(-1, 6, 4, 6, 4).mean(axis=(2, 4))
    return images[:, None].astype(float_dtype), y
