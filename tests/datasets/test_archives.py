"""Archives of NumPy arrays."""

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings

from fastcnn import datasets


def npy(array):
    """The bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def with_header(text, content=b"", version=1):
    """A .npy file with any header."""
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + content


@pytest.fixture
def archive(tmp_path):
    """Write an archive whose members are the given bytes."""

    def write(compression=zipfile.ZIP_STORED, **members):
        path = tmp_path / "data.npz"
        with zipfile.ZipFile(path, "w", compression) as file:
            for name, content in members.items():
                file.writestr(f"{name}.npy", content)
        return path

    return write


X = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)
Y = np.array([1, 0])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves(tmp_path, save):
    save(tmp_path / "data.npz", x=X, y=Y, other=np.zeros(3))
    x, y = datasets.npz(tmp_path / "data.npz")
    assert np.array_equal(x, X)
    assert x.dtype == np.float32
    assert x.flags.writeable
    assert y.dtype == np.int64
    assert y.tolist() == [1, 0]
    assert datasets.npz(str(tmp_path / "data.npz"), dtype="float64")[0].dtype == np.float64


def test_other_names(tmp_path):
    np.savez(tmp_path / "mnist.npz", x_train=X, y_train=Y)
    x, _ = datasets.npz(tmp_path / "mnist.npz", x="x_train", y="y_train")
    assert np.array_equal(x, X)
    with pytest.raises(ValueError, match=r"mnist.npz: has no array 'x'; it has: x_train, y_train"):
        datasets.npz(tmp_path / "mnist.npz")


@pytest.mark.parametrize("dtype", ["u1", "<f2", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_types_and_orders_of_images(tmp_path, dtype, order):
    values = np.asarray(X.astype(dtype), order=order)
    np.savez(tmp_path / "data.npz", x=values, y=Y)
    x, _ = datasets.npz(tmp_path / "data.npz")
    assert np.array_equal(x, (X / 255).astype(np.float32) if dtype == "u1" else X)
    assert x.dtype == np.dtype("=f4")
    assert x.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "<u8", "i1", ">i4", "<i8"])
def test_types_of_labels(tmp_path, dtype):
    np.savez(tmp_path / "data.npz", x=X, y=Y.astype(dtype))
    _, y = datasets.npz(tmp_path / "data.npz")
    assert y.dtype == np.int64
    assert y.tolist() == [1, 0]


def test_targets_that_are_floats_stay_floats(tmp_path):
    np.savez(tmp_path / "data.npz", x=X, y=np.array([[0.5], [1]]))
    _, y = datasets.npz(tmp_path / "data.npz")
    assert y.dtype == np.float32
    assert y.tolist() == [[0.5], [1]]


def test_any_byte_but_zero_is_true(archive):
    labels = with_header("{'descr': '|b1', 'fortran_order': False, 'shape': (2,), }", b"\x02\0")
    assert datasets.npz(archive(x=npy(X), y=labels))[1].tolist() == [1, 0]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_versions_of_the_header(archive, version):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1, 3, 4), }\n"
    x, _ = datasets.npz(archive(x=with_header(header, X.tobytes(), version), y=npy(Y)))
    assert np.array_equal(x, X)


def test_an_empty_set(tmp_path):
    np.savez(tmp_path / "data.npz", x=X[:0], y=Y[:0])
    x, y = datasets.npz(tmp_path / "data.npz")
    assert x.shape == (0, 1, 3, 4)
    assert y.shape == (0,)


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (X.astype(int), Y, r"x: expected floats, or uint8 .* int64: save it with .astype"),
        (X > 3, Y, "x: expected floats"),
        (X + np.nan, Y, "x: holds values that are not finite in float32"),
        (X.astype(float) + 1e300, Y, "x: holds values that are not finite in float32"),
        (X, np.array([1, np.inf]), "y: holds values that are not finite"),
        (X, np.array([1, 2**63], np.uint64), "y: 9223372036854775808 does not fit int64"),
        (X, Y[:1], r"equally long, found shapes \(2, 1, 3, 4\) and \(1,\)"),
        (np.float32(1), Y, r"found shapes \(\) and"),
        (X, np.int64(1), r"and \(\)"),
        (X, np.array([None, 1]), "y: descr: '|O' is not a plain number type"),
        (X, np.array(["a", "b"]), "y: descr: '<U1'"),
        (X, np.zeros(2, "i4,i4"), "y: header: .* does not describe an array of numbers"),
        (X.astype(complex), Y, "x: descr: '<c16'"),
    ],
)
def test_arrays_that_are_not_images_and_labels(archive, x, y, text):
    path = archive(x=npy(x), y=npy(y))
    with pytest.raises(ValueError, match=text) as caught:
        datasets.npz(path)
    assert str(path) in str(caught.value)


def header(descr="'<f4'", fortran="False", shape="(2,)"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    ("member", "text"),
    [
        (b"", "x: magic number: the file ends after 0 of 8 bytes"),
        (b"PK\x03\x04" * 4, "x: magic number: not a .npy file: 50 4b"),
        (with_header(header(), bytes(8), version=4), "x: version: 4, expected 1, 2 or 3"),
        (b"\x93NUMPY\x02\0\xff\xff\xff\xff", "x: header length: 4294967295, at most 4096"),
        (b"\x93NUMPY\x01\0\x70\0{", "x: header: the file ends after 1 of 112 bytes"),
        (with_header("__import__('os').system('true')"), "x: header: .* not a dictionary of lit"),
        (with_header("(" * 4000), "not a dictionary of literals"),
        (with_header("-" * 4000 + "1"), "x: header: "),
        (with_header("{[]: 1}"), "not a dictionary of literals"),
        (with_header("[1]"), "x: header: .* does not describe an array"),
        (with_header(header(fortran="0")), "does not describe an array"),
        (with_header(header(shape="[2]")), "does not describe an array"),
        (with_header(header(descr="'|V2147483647'")), "x: descr: '|V2147483647'"),
        (with_header(header(descr="'f4'")), "x: descr: 'f4'"),
        (with_header(header(shape="(2.0,)")), "x: shape: .* does not hold integers only"),
        (with_header(header(shape="(True,)")), "does not hold integers only"),
        (with_header(header(shape="(-1,)")), "x: shape: the size of dimension 0 is negative"),
        (with_header(header(), bytes(7)), r"x: shape: \(2,\) of float32 is 8 bytes, but 7 follow"),
        (with_header(header(), bytes(9)), "is 8 bytes, but 9 follow"),
        (with_header(header(shape="(10**12,)")), "x: header"),
        (with_header(header(shape=f"({2**40},)")), "is 4398046511104 bytes, but 0 follow"),
        (with_header(header(shape=f"({2**40}, {2**40})")), "x: shape: the sizes are beyond any"),
        (with_header(header(shape=f"(0, {2**62}, {2**62})")), "beyond any array"),
        (with_header(header(shape=str((1,) * 65)), bytes(4)), "65 dimensions"),
    ],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_lying_members(archive, little_memory, compression, member, text):
    path = archive(compression, x=member, y=npy(Y))
    with little_memory(), pytest.raises(ValueError, match=text) as caught:
        datasets.npz(path)
    assert str(path) in str(caught.value)


def test_an_archive_cut_anywhere(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=X, y=Y)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=str(path)):
            datasets.npz(path)


def test_a_member_that_lies_about_its_size(archive, little_memory):
    """The archive's directory says 2 GB, as does the array's header; 96 bytes are there."""
    claimed = 2**31 - 1
    member = with_header(header(descr="'|u1'", shape=f"({claimed - 76},)").ljust(66), bytes(8))
    path = archive(zipfile.ZIP_DEFLATED, x=member, y=npy(Y))
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", claimed)  # its uncompressed size
    path.write_bytes(content)
    with little_memory(), pytest.raises(ValueError, match=r"x: size: .* bytes cannot expand to"):
        datasets.npz(path)


def test_more_arrives_than_the_header_declares(archive, little_memory):
    bomb = with_header(header(), bytes(200 << 20))
    path = archive(zipfile.ZIP_DEFLATED, x=bomb, y=npy(Y))
    with little_memory(), pytest.raises(ValueError, match="is 8 bytes, but 209715200 follow"):
        datasets.npz(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_write(archive, compression):
    with pytest.raises(ValueError, match=r"x: compression .*, expected stored or deflated"):
        datasets.npz(archive(compression, x=npy(X), y=npy(Y)))


def test_an_encrypted_archive(archive):
    path = archive(x=npy(X), y=npy(Y))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}: .*encrypted"):
        datasets.npz(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_gives_only_value_errors(tmp_path_factory, damaged, read_or_refuse, save):
    path = tmp_path_factory.mktemp("damaged") / "data.npz"
    save(path, x=X, y=Y)
    content = path.read_bytes()

    @settings(deadline=None, max_examples=150)
    @given(damaged(content))
    def check(damage):
        path.write_bytes(damage)
        found = read_or_refuse(datasets.npz, path, named=path)
        assert found is None or len(found[0]) == len(found[1])

    check()
