"""A folder of pictures, one sub-folder for each class."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .checks import brightness, float_type, needs

if TYPE_CHECKING:
    from PIL import Image as PillowImage

# Pictures made of pixels. Named, because Pillow's list of everything includes EPS, for which it
# starts another program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# More than 8 bits per channel: Pillow's conversion to 8 bits would clip instead of scale.
DEEP_MODES = ("I", "F")


def image_folder(
    folder: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    grayscale: bool = False,
    dtype: npt.DTypeLike = "float32",
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Read the pictures of a folder whose sub-folders are the classes.

    Each sub-folder is one class and holds pictures only (BMP, GIF, JPEG, PNG, PPM, TIFF, WebP; of
    several frames the first). Names that begin with a dot, and files beside the sub-folders, are
    left out. Pictures are turned as their EXIF orientation says; transparency is dropped.

    Parameters
    ----------
    folder : path
    size : int or (height, width), optional
        Resize every picture to this (bilinear, averaging when it shrinks). By default all must have
        one size already.
    grayscale : bool
        One channel of luminance instead of red, green, blue.
    dtype : "float32" or "float64"

    Returns
    -------
    x : ndarray, (N, 3, H, W), or (N, 1, H, W) if `grayscale`
        pixel / 255, in the order of class name and file name.
    y : ndarray of int64, (N,)
        The place of the class in `class_names`.
    class_names : list of str
        The names of the sub-folders, sorted.

    Raises
    ------
    ValueError
        If a picture cannot be read, has more pixels than Pillow's ``MAX_IMAGE_PIXELS``, more than
        8 bits per channel, or another size; if there are no classes, or one is empty. The message
        names the file.
    OSError
        If a folder or file cannot be opened.
    ImportError
        If Pillow is missing.
    """
    float_dtype = float_type(dtype)
    wanted = _height_and_width(size)
    classes = sorted(path for path in _visible(Path(folder)) if path.is_dir())
    if not classes:
        raise ValueError(f"{folder}: no sub-folders; each class needs one with its pictures")
    files, y = [], []
    for label, path in enumerate(classes):
        found = sorted(_visible(path))
        if not found:
            raise ValueError(f"{path}: a class without pictures")
        files += found
        y += [label] * len(found)
    pictures: list[np.ndarray] = []
    for file in files:
        picture = _read_picture(file, wanted, grayscale)
        if pictures and picture.shape != pictures[0].shape:
            raise ValueError(
                f"{file}: height x width is {picture.shape[1]} x {picture.shape[2]}, but "
                f"{pictures[0].shape[1]} x {pictures[0].shape[2]} in {files[0]}; pass "
                "size=(height, width) to resize them"
            )
        pictures.append(picture)
    x = brightness(np.stack(pictures), float_dtype)
    return x, np.array(y, dtype=np.int64), [path.name for path in classes]


def _height_and_width(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int | np.integer) else size
    match pair:
        case (int() | np.integer() as height, int() | np.integer() as width):
            if height > 0 and width > 0:
                return int(height), int(width)
    raise ValueError(f"size must be a positive integer or (height, width), got {size!r}")


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _read_picture(path: Path, wanted: tuple[int, int] | None, grayscale: bool) -> np.ndarray:
    """Read one picture as (C, H, W) uint8."""
    with needs("pillow", "folders of images"):
        from PIL import Image, ImageOps
    if not path.is_file():
        raise ValueError(f"{path}: not a file; a class's folder holds pictures only")
    with path.open("rb") as file:
        try:
            with Image.open(file, formats=FORMATS) as image:
                _check_kind(image, Image.MAX_IMAGE_PIXELS)
                upright = ImageOps.exif_transpose(image)
                if upright.mode == "P":
                    # By way of RGBA, since a palette may give each colour its own transparency.
                    upright = upright.convert("RGBA")
                upright = upright.convert("L" if grayscale else "RGB")
                if wanted is not None:
                    height, width = wanted
                    upright = upright.resize((width, height), Image.Resampling.BILINEAR)
                pixels = np.array(upright, dtype=np.uint8)
        # Of a damaged file Pillow's readers raise nearly anything: OSError, SyntaxError,
        # struct.error, IndexError, EOFError, its DecompressionBombError, …
        except Exception as err:
            raise ValueError(f"{path}: cannot be read as a picture: {err}") from err
    # Pillow's arrays are (H, W) for one channel, (H, W, 3) for three.
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def _check_kind(image: "PillowImage.Image", limit: int | None) -> None:
    """Refuse, before its pixels are decoded, a picture that is too large or too deep."""
    # Pillow itself only warns up to twice the limit.
    if limit is not None and image.width * image.height > limit:
        raise ValueError(
            f"{image.width} x {image.height} pixels are more than PIL.Image.MAX_IMAGE_PIXELS = "
            f"{limit} (a decompression bomb?)"
        )
    if image.mode.partition(";")[0] in DEEP_MODES:
        raise ValueError(f"mode {image.mode!r} has more than 8 bits per channel: convert it first")
