"""Real images as NumPy arrays: two sets that come with installed packages, and readers for files.

Images are NCHW in ``float32`` (or ``float64``) from 0 to 1, labels are ``int64``. Nothing here
opens a network connection. Files are never trusted: what they declare is held against what they
contain before memory is taken for it, and nothing in them is executed.
"""

from .archives import npz
from .cifar import cifar10
from .digit_images import digits
from .face_images import faces
from .features import two_means
from .folders import image_folder
from .idx import mnist_idx, read_idx
from .splitting import split

__all__ = [
    "cifar10",
    "digits",
    "faces",
    "image_folder",
    "mnist_idx",
    "npz",
    "read_idx",
    "split",
    "two_means",
]
