"""CIFAR-10's two versions, and pickles that mean harm."""

import codecs
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest
from hypothesis import given, settings

from fastcnn import datasets

RECORD = 3073


def batch(count=4, seed=0):
    """Return images (count, 3072) and labels of one made-up batch."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3072), dtype=np.uint8), rng.integers(0, 10, count).tolist()


def python_2_pickle(images, labels):
    """What Python 2's cPickle wrote: protocol 2, short strings, numpy.core, integers for flags."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def integer(value):
        return b"J" + struct.pack("<i", value)

    return b"".join(
        [
            b"\x80\x02}q\x01(",
            text(b"batch_label") + b"q\x02" + text(b"training batch 1 of 5") + b"q\x03",
            text(b"labels") + b"q\x04]q\x05(",
            *(b"K" + bytes([label]) for label in labels),
            b"e",
            text(b"data") + b"cnumpy.core.multiarray\n_reconstruct\nq\x06",
            b"cnumpy\nndarray\nq\x07K\x00\x85" + text(b"b") + b"\x87Rq\x08",
            b"(K\x01" + integer(len(images)) + integer(3072) + b"\x86",
            b"cnumpy\ndtype\nq\x09" + text(b"u1") + b"K\x00K\x01\x87Rq\x0a",
            b"(K\x03" + text(b"|") + b"NNN" + integer(-1) + integer(-1) + b"K\x00tb",
            b"\x89T" + struct.pack("<i", images.size) + images.tobytes() + b"tb",
            text(b"filenames") + b"]r" + struct.pack("<I", 11) + b"(",
            *(text(b"image_%d.png" % label) + b"q\x0c" for label in labels),
            b"eu.",
        ]
    )


def records(images, labels):
    """The binary version."""
    return np.column_stack([np.array(labels, np.uint8), images]).tobytes()


def pickled(images, labels, protocol=4, **others):
    return pickle.dumps({"data": images, "labels": labels, **others}, protocol)


@pytest.fixture
def written(tmp_path):
    def write(content, name="data_batch_1"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def test_what_python_2_wrote(written):
    images, labels = batch()
    content = python_2_pickle(images, labels)
    # The test's own pickle is one that Python reads as it reads the real files.
    assert np.array_equal(pickle.loads(content, encoding="bytes")[b"data"], images)
    x, y = datasets.cifar10(written(content))
    assert x.shape == (4, 3, 32, 32)
    assert x.flags.c_contiguous
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    assert y.tolist() == labels
    for colour in range(3):
        plane = images[2, 1024 * colour : 1024 * (colour + 1)].reshape(32, 32)
        assert np.array_equal(x[2, colour], (plane / 255).astype(np.float32))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_python_3_writes(written, protocol, order):
    images, labels = batch()
    content = pickle.dumps({b"data": np.asarray(images, order=order), b"labels": labels}, protocol)
    x, y = datasets.cifar10(written(content), dtype="float64")
    assert np.array_equal(x.reshape(4, -1), images / 255)
    assert y.tolist() == labels


def test_labels_may_be_an_array(written):
    images, labels = batch()
    for dtype in ("u1", "<i8", ">i4"):
        path = written(pickled(images, np.array(labels, dtype)))
        assert datasets.cifar10(path)[1].tolist() == labels


def test_the_binary_version(written):
    images, labels = batch()
    x, y = datasets.cifar10(written(records(images, labels), "data_batch_1.bin"))
    assert np.array_equal(x.reshape(4, -1), (images / 255).astype(np.float32))
    assert y.tolist() == labels


@pytest.mark.parametrize(("write", "suffix"), [(python_2_pickle, ""), (records, ".bin")])
def test_a_folder_is_its_batches_in_order(written, tmp_path, write, suffix):
    batches = [batch(seed=number) for number in range(6)]
    names = [f"data_batch_{number}{suffix}" for number in range(1, 6)] + [f"test_batch{suffix}"]
    for name, (images, labels) in zip(names, batches, strict=True):
        written(write(images, labels), name)
    x, y = datasets.cifar10(tmp_path)
    assert np.array_equal(
        x.reshape(20, -1), (np.concatenate([b[0] for b in batches[:5]]) / 255).astype(np.float32)
    )
    assert y.tolist() == [label for _, labels in batches[:5] for label in labels]
    assert datasets.cifar10(tmp_path, part="test")[1].tolist() == batches[5][1]
    (tmp_path / names[2]).unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {names[2]}$"):
        datasets.cifar10(tmp_path)


def test_folders_that_do_not_hold_one_version(written, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lacks data_batch_1, .* is the archive unpacked"):
        datasets.cifar10(tmp_path)
    written(b"", "test_batch")
    written(b"", "test_batch.bin")
    with pytest.raises(ValueError, match="both the python and the binary version"):
        datasets.cifar10(tmp_path, part="test")
    with pytest.raises(ValueError, match="part must be 'train' or 'test', got 'all'"):
        datasets.cifar10(tmp_path, part="all")
    with pytest.raises(ValueError, match="leave it out"):
        datasets.cifar10(tmp_path / "test_batch", part="test")


@pytest.mark.parametrize("length", [0, 1, RECORD - 1, RECORD + 1, 4 * RECORD - 1])
def test_cut_records(written, length):
    path = written(records(*batch())[:length])
    with pytest.raises(ValueError, match=f"{path}: {length} bytes are neither a pickle"):
        datasets.cifar10(path)


def test_records_with_a_wrong_label(written):
    path = written(records(batch()[0], [1, 2, 10, 3]))
    with pytest.raises(ValueError, match=f"{path}: label of record 2: 10, expected 0 to 9"):
        datasets.cifar10(path)


def test_a_downloaded_archive_is_not_unpacked_here(written):
    with pytest.raises(ValueError, match="unpack it first"):
        datasets.cifar10(written(b"\x1f\x8b" + bytes(100), "cifar-10-python.tar.gz"))


@pytest.mark.parametrize("write", [python_2_pickle, pickled])
def test_a_pickle_cut_anywhere(written, write):
    images, labels = batch(1)
    content = write(images, labels)
    pixels = content.index(images.tobytes())
    for length in [*range(1, pixels + 2), *range(pixels + 3070, len(content))]:
        path = written(content[:length])
        with pytest.raises(ValueError, match=f"{path}: pickle, byte"):
            datasets.cifar10(path)


IMAGES, LABELS = batch()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (pickle.dumps([1, 2]), "holds a list, expected a dictionary"),
        (pickle.dumps({"labels": LABELS}), "has no 'data'; it has: labels"),
        (pickle.dumps({"data": IMAGES, "fine_labels": LABELS}), "no 'labels'; .* fine_labels"),
        (pickled([[1]], LABELS), "data: expected an array, found a list"),
        (pickled(IMAGES[:, :-1].copy(), LABELS), r"data: expected \(N, 3072\) .* \(4, 3071\)"),
        (pickled(IMAGES.astype(np.int16), LABELS), "data: .* found .* of int16"),
        (pickled(IMAGES.reshape(4, 3, 1024), LABELS), r"data: .*\(4, 3, 1024\)"),
        (pickled(IMAGES[:0], []), "data: no images"),
        (pickled(IMAGES, LABELS[:3]), "labels: 3 labels for 4 images"),
        (pickled(IMAGES, [1, 2, 10, 3]), "labels: label 2 is 10, expected 0 to 9"),
        (pickled(IMAGES, [1, -1, 0, 3]), "labels: label 1 is -1"),
        (pickled(IMAGES, [1, 2**2000, 0, 3]), "labels: label 1 is 1148"),
        (pickled(IMAGES, [1, 2, 3, 0.5]), "labels: expected a list of integers"),
        (pickled(IMAGES, [1, 2, 3, True]), "labels: expected a list of integers"),
        (pickled(IMAGES, np.eye(4, dtype=int)), "labels: expected a list of integers"),
        (pickled(IMAGES, LABELS, more={(1, 2): 3}), "key of a dictionary is a tuple"),
        (pickled(IMAGES, LABELS, more=np.array([None])), "type 'O8': only arrays of plain numbers"),
        (pickled(IMAGES, LABELS, more=np.zeros(1, "i4,i4")), "type 'V8'"),
        (pickled(IMAGES, LABELS, more=[0] * 3000), "more instructions than any batch"),
        (pickle.dumps(IMAGES, 1), "neither a pickle of protocol 2"),
        (b"\x80\x09N.", "protocol 9, expected 2 to 5"),
    ],
)
def test_pickles_that_are_not_cifar_10(written, content, text):
    path = written(content)
    with pytest.raises(ValueError, match=text) as caught:
        datasets.cifar10(path)
    assert str(path) in str(caught.value)


def array_pickle(shape, content, code=b"\x8c\x02u1"):
    """A pickle of one array that may lie about its shape, through _frombuffer."""
    kind = b"\x8c\x05numpy\x8c\x05dtype\x93" + code + b"\x89\x88\x87R"
    name = b"\x8c\x13numpy._core.numeric\x8c\x0b_frombuffer\x93"
    size = b"".join(b"\x8a\x09" + value.to_bytes(9, "little", signed=True) for value in shape)
    data = b"B" + struct.pack("<I", len(content)) + content
    return b"\x80\x04" + name + b"(" + data + kind + b"(" + size + b"t\x8c\x01Ct" + b"R."


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (array_pickle([2, 3], b"12345"), r"shape \(2, 3\) declares 6 bytes, it has 5"),
        (array_pickle([2**40], b""), "declares 1099511627776 bytes, it has 0"),
        (array_pickle([2**40, 2**40], b""), "beyond any array"),
        (array_pickle([0, 2**62, 2**62], b""), "beyond any array"),
        (array_pickle([-1], b""), "negative"),
        (array_pickle([1], b"a", b"\x8c\x0bV2147483647"), "type 'V2147483647'"),
        # Python's own machine takes 4 to 8 GB for each of these two.
        (b"\x80\x02Nr" + struct.pack("<I", 2**28) + b"0.", "instruction b'0' is not one"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**33) + b".", "8589934592 bytes are needed"),
        (b"\x80\x04\x96" + struct.pack("<Q", 2**63) + b".", "bytes are needed"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b".", "stack is empty"),
        (b"\x80\x02T" + struct.pack("<i", -1) + b".", "-1 bytes are needed"),
        (b"\x80\x02" + b"]" * (1 << 20), "more instructions than any batch"),
        # one text, encoded again and again
        (
            b"\x80\x02c_codecs\nencode\nq\x00X"
            + struct.pack("<I", 1 << 20)
            + b"a" * (1 << 20)
            + b"X\x06\x00\x00\x00latin1\x86q\x01R"
            + b"h\x00h\x01R" * 100,
            "more text is encoded than the file holds",
        ),
    ],
)
def test_lying_pickles_take_no_memory(written, little_memory, content, text):
    path = written(content)
    with little_memory(), pytest.raises(ValueError, match=text) as caught:
        datasets.cifar10(path)
    assert str(path) in str(caught.value)


def test_a_file_too_large_for_cifar_10_is_not_read(tmp_path, little_memory):
    path = tmp_path / "data_batch_1"
    with path.open("wb") as file:
        file.truncate(2 << 30)  # sparse: takes no space
    with little_memory(), pytest.raises(ValueError, match="size: 2147483648 bytes are too many"):
        datasets.cifar10(path)


class Call:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


MARK_FILE = "executed"


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "harm",
    [
        Call(os.system, f"touch {MARK_FILE}"),
        Call(eval, f"open({MARK_FILE!r}, 'w')"),
        Call(exec, f"open({MARK_FILE!r}, 'w')"),
        Call(open, MARK_FILE, "w"),
        Call(getattr, os, "system"),
        Call(__import__, "os"),
        Call(np.load, MARK_FILE),
        Call(np.fromfile, MARK_FILE),
        Call(np.save, MARK_FILE, 1),
        Call(np.memmap, MARK_FILE, "u1", "w+", 0, (1,)),
        Call(codecs.open, MARK_FILE, "w"),
        Call(np.ndarray, (1 << 40,)),
        Call(np.empty, (1 << 40,)),
        Call(bytearray, 1 << 40),
        Call(codecs.encode, "harm", "rot13"),
        os.system,
        np.random.default_rng(0),
        np.float64(1),
    ],
    ids=lambda harm: getattr(getattr(harm, "call", [harm])[0], "__name__", type(harm).__name__),
)
def test_harmful_pickles_are_refused_unexecuted(
    written, monkeypatch, tmp_path, little_memory, harm, protocol
):
    monkeypatch.chdir(tmp_path)
    # os cannot be pickled itself; a list of names stands for it where it is an argument.
    if isinstance(harm, Call) and harm.call[1][:1] == (os,):
        harm = Call(getattr, "os", "system")
    content = pickle.dumps({"data": harm, "labels": []}, protocol)
    path = written(content)
    with little_memory(), pytest.raises(ValueError, match=r"asks for|arguments of") as caught:
        datasets.cifar10(path)
    assert str(path) in str(caught.value)
    assert not (tmp_path / MARK_FILE).exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02cos\nsystem\n(X\x0e\x00\x00\x00touch executedtR.",
        b"\x80\x02(cos\nsystem\nX\x0e\x00\x00\x00touch executedo.",
        b"\x80\x02(X\x0e\x00\x00\x00touch executedios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0etouch executed\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x0fcore.os.system_\x93.",
        b"\x80\x02cnumpy\nndarray\nK\x01\x85\x81.",  # NEWOBJ
        b"\x80\x02cnumpy\nndarray\nK\x01\x85R.",
        b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01btR.",
        b"\x80\x02cnumpy\nndarray\n(U\x01a}tb.",  # BUILD on a global name
        b"\x80\x02}(U\x01aK\x01tb.",  # BUILD on a dictionary
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x02U\x01aQ.",  # BINPERSID
        b"\x80\x04" + b"(" * 100 + b"t" * 100 + b".",
        b"\x80\x02c" + b"a" * 200,
        b"\x80\x02h\x07.",
        b"\x80\x02}K\x01s.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02]}e.",
        b"\x80\x02}K\x01a.",
        b"\x80\x02(.",
        b"\x80\x04\x8c\x02\xff\xfe.",
    ],
)
def test_hostile_programs(written, monkeypatch, tmp_path, program):
    monkeypatch.chdir(tmp_path)
    path = written(program)
    with pytest.raises(ValueError, match=str(path)):
        datasets.cifar10(path)
    assert not (tmp_path / MARK_FILE).exists()


def test_deep_nesting_does_no_harm(written):
    """A key nested this deeply, when hashed, overflows the stack of Python's own machine."""
    depth = 300_000
    program = b"\x80\x04})" + b"\x85" * depth + b"Ns."
    padding = b"B" + struct.pack("<I", 100 * depth) + bytes(100 * depth)
    with pytest.raises(ValueError, match="key of a dictionary is a tuple"):
        datasets.cifar10(written(b"\x80\x04" + padding + program[2:]))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_damaged_pickles_give_only_value_errors(
    tmp_path_factory, damaged, read_or_refuse, protocol
):
    path = tmp_path_factory.mktemp("damaged") / "batch"
    images, labels = batch(1)
    content = pickletools.optimize(pickled(images, labels, protocol, names=[b"a", "b", 1 << 40]))

    @settings(deadline=None, max_examples=150)
    @given(damaged(content).map(lambda damage: b"\x80" + damage[1:]))
    def check(damage):
        path.write_bytes(damage)
        found = read_or_refuse(datasets.cifar10, path, named=path)
        assert found is None or found[0].shape == (len(found[1]), 3, 32, 32)

    check()
