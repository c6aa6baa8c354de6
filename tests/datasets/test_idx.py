"""IDX files: well-formed, cut off, lying and random."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from fastcnn import datasets

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
HUGE = 2**31 - 1


def idx(code, sizes, elements=b""):
    """The bytes of an IDX file, whatever is put in."""
    header = bytes([0, 0, code, len(sizes)])
    return header + b"".join(struct.pack(">i", size) for size in sizes) + bytes(elements)


@pytest.fixture
def written(tmp_path):
    def write(content, name="file"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
@pytest.mark.parametrize("code", TYPES)
def test_each_type_is_read_in_native_order(written, code, packed):
    values = np.array([[1, 2, 100], [3, 4, 5]], TYPES[code])
    array = datasets.read_idx(written(packed(idx(code, values.shape, values.tobytes()))))
    assert array.dtype == values.dtype.newbyteorder("=")
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert np.array_equal(array, values)


@pytest.mark.parametrize("shape", [(5,), (0, 28, 28), (1,) * 64])
def test_unusual_shapes(written, shape):
    count = int(np.prod(shape))
    array = datasets.read_idx(written(idx(0x08, shape, bytes(range(count)))))
    assert array.shape == shape
    assert array.ravel().tolist() == list(range(count))


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_a_file_cut_anywhere(written, packed):
    whole = idx(0x0B, (2, 3), bytes(12))
    for length in range(len(whole)):
        path = written(packed(whole[:length]))
        with pytest.raises(ValueError, match=str(path)) as caught:
            datasets.read_idx(path)
        field = "magic number" if length < 4 else "sizes" if length < 12 else "sizes|elements"
        assert caught.match(field)


def test_gzip_data_cut_anywhere(written):
    packed = gzip.compress(idx(0x08, (4,), b"abcd"))
    for length in range(2, len(packed)):
        path = written(packed[:length])
        with pytest.raises(ValueError, match=str(path)):
            datasets.read_idx(path)


def test_gzip_data_with_a_wrong_checksum(written):
    packed = bytearray(gzip.compress(idx(0x08, (4,), b"abcd")))
    packed[-5] ^= 1  # the last byte of the CRC, in front of the four bytes of the length
    with pytest.raises(ValueError, match=r"damaged gzip data .*CRC"):
        datasets.read_idx(written(bytes(packed)))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x01\0\x08\x01" + bytes(8), "magic number: .*two zero bytes, found 01 00 08 01"),
        (idx(0x0A, (1,), b"a"), "type: 0x0A is unknown, expected one of 0x08"),
        (idx(0x08, ()), "number of dimensions: 0"),
        (idx(0x08, (-1,)), "sizes: the size of dimension 0 is negative: -1"),
        (idx(0x08, (1, -(2**31)), b"a"), "dimension 1 is negative: -2147483648"),
        (idx(0x08, (3,), b"ab"), "sizes: 3 elements of 1 bytes are 3 bytes, but the file has 2"),
        (idx(0x08, (3,), b"abcd"), "the file has 4"),
        (idx(0x0E, (HUGE,)), "but the file has 0"),
        (idx(0x0E, (HUGE, HUGE, HUGE)), "sizes: the sizes are beyond any array"),
        (idx(0x08, (0, HUGE, HUGE, HUGE)), "sizes: the sizes are beyond any array"),
        (idx(0x08, (1,) * 65, b"a"), "sizes: 65 dimensions, at most 64"),
    ],
)
def test_lying_headers(written, little_memory, content, text):
    path = written(content)
    with little_memory(), pytest.raises(ValueError, match=text) as caught:
        datasets.read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (idx(0x08, (-1,)), "sizes: the size of dimension 0 is negative: -1"),
        (idx(0x08, (3,), b"ab"), "elements: the file ends after 2 of 3 bytes"),
        (idx(0x08, (3,), b"abcd"), "elements: more bytes follow than the 3 declared"),
        (idx(0x0E, (HUGE,)), "are 17179869176 bytes, but the file has at most"),
        (idx(0x0E, (HUGE, HUGE, HUGE)), "sizes: the sizes are beyond any array"),
    ],
)
def test_lying_headers_in_gzip(written, little_memory, content, text):
    path = written(gzip.compress(content))
    with little_memory(), pytest.raises(ValueError, match=text) as caught:
        datasets.read_idx(path)
    assert str(path) in str(caught.value)


def test_gzip_that_expands_to_more_than_declared(written, little_memory):
    bomb = gzip.compress(idx(0x08, (10,), bytes(200 << 20)), compresslevel=1)
    with little_memory(), pytest.raises(ValueError, match="more bytes follow than the 10 declared"):
        datasets.read_idx(written(bomb))


def test_gzip_that_holds_less_than_declared(written, little_memory):
    # 2 MB of noise could expand to the declared 1.5 GB, as far as its length tells.
    noise = np.random.default_rng(0).bytes(2 << 20)
    path = written(gzip.compress(idx(0x08, (1500, 1000, 1000), noise), compresslevel=1))
    with little_memory(), pytest.raises(ValueError, match="ends after 2097152 of 1500000000 bytes"):
        datasets.read_idx(path)


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_damage_gives_only_value_errors(tmp_path_factory, damaged, read_or_refuse, packed):
    path = tmp_path_factory.mktemp("damaged") / "file"
    content = packed(idx(0x0D, (2, 3), np.arange(6, dtype=">f4").tobytes()))

    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(damaged(content))
    def check(damage):
        path.write_bytes(damage)
        array = read_or_refuse(datasets.read_idx, path, named=path)
        assert array is None or array.nbytes <= 1032 * len(damage)

    check()


@pytest.fixture
def mnist(written):
    """Three images and labels under MNIST's own names."""
    pixels = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5) * 4
    images = written(idx(0x08, pixels.shape, pixels.tobytes()), "train-images-idx3-ubyte")
    labels = written(idx(0x08, (3,), bytes([7, 0, 9])), "train-labels-idx1-ubyte")
    return images, labels, pixels


def test_mnist(mnist):
    images, labels, pixels = mnist
    x, y = datasets.mnist_idx(images, str(labels))
    assert x.shape == (3, 1, 4, 5)
    assert x.flags.c_contiguous
    assert x.dtype == np.float32
    assert np.array_equal(x[:, 0], (pixels / 255).astype(np.float32))
    assert y.dtype == np.int64
    assert y.tolist() == [7, 0, 9]
    assert datasets.mnist_idx(images, labels, dtype="float64")[0].dtype == np.float64


def test_labels_are_found_beside_the_images(mnist):
    images, labels, _ = mnist
    assert datasets.mnist_idx(images)[1].tolist() == [7, 0, 9]
    packed = labels.with_name(labels.name + ".gz")
    packed.write_bytes(gzip.compress(labels.read_bytes()))
    labels.unlink()
    assert datasets.mnist_idx(images)[1].tolist() == [7, 0, 9]
    packed.unlink()
    with pytest.raises(FileNotFoundError, match="neither train-labels-idx1-ubyte nor"):
        datasets.mnist_idx(images)
    with pytest.raises(ValueError, match="pass labels_path"):
        datasets.mnist_idx(images.rename(images.with_name("pictures")))


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (idx(0x08, (3, 4), bytes(12)), None, r"images: images must be .* found \(3, 4\) of uint8"),
        (idx(0x0C, (3, 1, 1), bytes(12)), None, r"found \(3, 1, 1\) of int32"),
        (idx(0x08, (3, 4, 0)), None, r"images of \(4, 0\) have no pixels"),
        (None, idx(0x08, (3, 1), bytes(3)), r"labels: labels must be .* found \(3, 1\) of uint8"),
        (None, idx(0x0D, (3,), bytes(12)), "labels must be .* of float32"),
        (None, idx(0x08, (2,), bytes(2)), "labels: 2 labels do not fit .*images: 3 images"),
        (None, idx(0x09, (3,), b"\x01\xff\x02"), "labels: labels: -1 is negative"),
    ],
)
def test_files_that_are_not_images_and_labels(written, images, labels, text):
    images = idx(0x08, (3, 1, 1), bytes(3)) if images is None else images
    labels = idx(0x08, (3,), bytes(3)) if labels is None else labels
    with pytest.raises(ValueError, match=text):
        datasets.mnist_idx(written(images, "images"), written(labels, "labels"))


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        datasets.read_idx(tmp_path / "nothing")
