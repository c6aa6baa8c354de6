"""Folders of pictures."""

import builtins
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from fastcnn import datasets

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
ORIENTATION = 0x0112
# Two rows of three colours: no two of the eight ways to lay it are alike.
PICTURE = np.array(
    [[RED, GREEN, BLUE], [(10, 20, 30), (200, 100, 0), (255, 255, 255)]], dtype=np.uint8
)


def save(path, pixels=PICTURE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def test_classes_are_the_sorted_folders(tmp_path):
    for name, value in [("dog/b.png", 3), ("dog/a.png", 2), ("cat/z.png", 1), ("Emu/x.png", 0)]:
        save(tmp_path / name, np.full((2, 3, 3), value, np.uint8))
    save(tmp_path / "dog" / ".hidden.png")
    (tmp_path / "dog" / ".DS_Store").write_bytes(b"not a picture")
    (tmp_path / "labels.csv").write_text("beside the folders")
    (tmp_path / ".git").mkdir()
    x, y, names = datasets.image_folder(tmp_path)
    assert names == ["Emu", "cat", "dog"]
    assert y.dtype == np.int64
    assert y.tolist() == [0, 1, 2, 2]
    assert x.shape == (4, 3, 2, 3)
    assert x.flags.c_contiguous
    assert np.array_equal(x[:, 0, 0, 0], (np.arange(4) / 255).astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_colours_become_planes(tmp_path, dtype):
    save(tmp_path / "a" / "0.png")
    x, _, _ = datasets.image_folder(str(tmp_path), dtype=dtype)
    assert x.dtype == dtype
    for colour in range(3):
        assert np.array_equal(x[0, colour], (PICTURE[:, :, colour] / 255).astype(dtype))


def test_grayscale_is_luminance(tmp_path):
    save(tmp_path / "a" / "0.png")
    save(tmp_path / "a" / "1.png", np.arange(6, dtype=np.uint8).reshape(2, 3))
    x, _, _ = datasets.image_folder(tmp_path, grayscale=True)
    assert x.shape == (2, 1, 2, 3)
    # ITU-R 601: 0.299 R + 0.587 G + 0.114 B
    luma = PICTURE @ [0.299, 0.587, 0.114] / 255
    assert np.abs(x[0, 0] - luma).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(x[1, 0] * 255, np.arange(6).reshape(2, 3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """Stored row 0 and column 0 are, for each orientation, the sides that Exif names."""
    upright = {
        1: PICTURE,  # top, left
        2: PICTURE[:, ::-1],  # top, right
        3: PICTURE[::-1, ::-1],  # bottom, right
        4: PICTURE[::-1],  # bottom, left
        5: PICTURE.transpose(1, 0, 2),  # left, top
        6: PICTURE.transpose(1, 0, 2)[:, ::-1],  # right, top: turned clockwise
        7: PICTURE.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
        8: PICTURE.transpose(1, 0, 2)[::-1],  # left, bottom: turned anticlockwise
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    save(tmp_path / "a" / "0.png", exif=exif)
    x, _, _ = datasets.image_folder(tmp_path)
    assert np.array_equal(np.round(x[0].transpose(1, 2, 0) * 255), upright)


def test_exif_orientation_of_a_photograph(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255  # the left half, which turned clockwise is the upper half
    save(tmp_path / "a" / "0.jpg", pixels, exif=exif, quality=95)
    x, _, _ = datasets.image_folder(tmp_path)
    assert x.shape == (1, 3, 32, 16)
    assert x[0, :, :15].min() > 0.9
    assert x[0, :, 17:].max() < 0.1
    resized, _, _ = datasets.image_folder(tmp_path, size=(4, 2))
    assert resized.shape == (1, 3, 4, 2)
    assert resized[0, :, 0].min() > 0.9


@pytest.mark.parametrize("name", ["0.bmp", "0.gif", "0.jpg", "0.png", "0.ppm", "0.tif", "0.webp"])
def test_formats(tmp_path, name):
    grey = np.full((8, 8, 3), 51, np.uint8)
    save(tmp_path / "a" / name, grey)
    x, _, _ = datasets.image_folder(tmp_path)
    assert x.shape == (1, 3, 8, 8)
    assert np.abs(x - 0.2).max() < 2 / 255


def test_palettes_transparency_and_one_bit(tmp_path):
    palette = Image.fromarray(PICTURE).quantize(6)
    (tmp_path / "a").mkdir()
    palette.save(tmp_path / "a" / "0.png", transparency=bytes([0, 128, 255, 0, 0, 0]))
    with_alpha = np.concatenate([PICTURE, np.full((2, 3, 1), 7, np.uint8)], axis=2)
    save(tmp_path / "a" / "1.png", with_alpha)
    Image.fromarray(PICTURE[:, :, 0] > 100).save(tmp_path / "a" / "2.png")
    x, _, _ = datasets.image_folder(tmp_path)
    pixels = np.round(x.transpose(0, 2, 3, 1) * 255)
    assert np.array_equal(pixels[0], PICTURE)
    assert np.array_equal(pixels[1], PICTURE)
    assert np.array_equal(pixels[2], np.repeat((PICTURE[:, :, :1] > 100) * 255, 3, axis=2))


def test_sizes_must_agree_or_be_given(tmp_path):
    save(tmp_path / "a" / "0.png")
    other = save(tmp_path / "b" / "1.png", np.zeros((5, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=f"{other}: height x width is 5 x 4, but 2 x 3 in .*0.png"):
        datasets.image_folder(tmp_path)
    assert datasets.image_folder(tmp_path, size=6)[0].shape == (2, 3, 6, 6)
    assert datasets.image_folder(tmp_path, size=(1, 7))[0].shape == (2, 3, 1, 7)


def test_shrinking_averages(tmp_path):
    checks = np.indices((16, 16)).sum(axis=0) % 2 * 255
    save(tmp_path / "a" / "0.png", np.repeat(checks[:, :, None], 3, axis=2).astype(np.uint8))
    x, _, _ = datasets.image_folder(tmp_path, size=2)
    assert np.abs(x - 0.5).max() < 0.05


@pytest.mark.parametrize("size", [0, -1, (3,), (3, 0), (3, 4, 5), "8", 2.5])
def test_wrong_sizes(tmp_path, size):
    with pytest.raises(ValueError, match="size must be a positive integer or"):
        datasets.image_folder(tmp_path, size=size)


def test_folders_without_classes_or_pictures(tmp_path):
    with pytest.raises(ValueError, match="no sub-folders"):
        datasets.image_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: a class without pictures"):
        datasets.image_folder(tmp_path)
    (tmp_path / "empty" / "inner").mkdir()
    with pytest.raises(ValueError, match="inner: not a file"):
        datasets.image_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        datasets.image_folder(tmp_path / "missing")


def test_an_unreadable_file_is_named(tmp_path):
    save(tmp_path / "a" / "0.png")
    bad = tmp_path / "a" / "1.png"
    bad.write_text("not a picture")
    with pytest.raises(ValueError, match=f"{bad}: cannot be read as a picture"):
        datasets.image_folder(tmp_path)


def test_formats_that_start_other_programs_are_not_read(tmp_path):
    eps = save(tmp_path / "a" / "0.eps")
    with pytest.raises(ValueError, match=f"{eps}: cannot be read as a picture"):
        datasets.image_folder(tmp_path)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_picture_cut_anywhere(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    path = save(tmp_path / "a" / f"0.{kind}", noise)
    content = path.read_bytes()
    # The last bytes are end marks and checksums, without which the pixels are whole.
    for length in range(0, len(content) - 32, 3):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=str(path)):
            datasets.image_folder(tmp_path)


@pytest.mark.parametrize("action", ["error", "ignore"])
@pytest.mark.parametrize("side", [40, 60])
def test_too_many_pixels(tmp_path, monkeypatch, action, side):
    """Pillow warns above its limit and refuses above twice the limit; here both are refused."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = save(tmp_path / "a" / "0.png", np.zeros((side, side, 3), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter(action, Image.DecompressionBombWarning)
        with pytest.raises(ValueError, match=f"{path}: .*bomb"):
            datasets.image_folder(tmp_path)


def test_a_bomb_is_not_decoded(tmp_path, little_memory):
    path = save(tmp_path / "a" / "0.png", np.zeros((1, 1), np.uint8))
    content = bytearray(path.read_bytes())
    # IHDR: width and height at bytes 16 and 20; 60,000 x 60,000 = 3.6e9 pixels
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    path.write_bytes(content)
    with little_memory(), pytest.raises(ValueError, match=str(path)):
        datasets.image_folder(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_pictures_are_refused(tmp_path, dtype):
    path = save(tmp_path / "a" / "0.tif", np.zeros((2, 3), dtype))
    with pytest.raises(ValueError, match=f"{path}: .*more than 8 bits per channel"):
        datasets.image_folder(tmp_path)


def test_a_missing_pillow_is_named_with_its_extra(tmp_path, monkeypatch):
    save(tmp_path / "a" / "0.png")
    real_import = builtins.__import__

    def without(name, *arguments):
        if name == "PIL":
            raise ModuleNotFoundError("No module named 'PIL'")
        return real_import(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pillow is needed .*pip install 'fastcnn\[demo\]'"):
        datasets.image_folder(tmp_path)


@pytest.mark.parametrize("name", ["0.png", "0.gif", "0.bmp", "0.ppm", "0.tif", "0.jpg", "0.webp"])
def test_damaged_pictures_give_only_value_errors(tmp_path_factory, damaged, read_or_refuse, name):
    folder = tmp_path_factory.mktemp("damaged")
    path = save(folder / "a" / name)
    content = path.read_bytes()

    @settings(deadline=None, max_examples=40)
    @given(damaged(content))
    def check(damage):
        path.write_bytes(damage)
        found = read_or_refuse(datasets.image_folder, folder, named=path)
        assert found is None or found[0].shape[:2] == (1, 3)

    check()
