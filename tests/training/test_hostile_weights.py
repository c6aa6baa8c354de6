"""Files of weights that lie: refused by name, without unpickling, without the memory they claim."""

from __future__ import annotations

import copy
import json
import struct
import zipfile

import numpy as np
import pytest

from fastcnn.training import load_weights

pytest.importorskip("safetensors")


def npz_with(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def npy(descr="<f4", shape="(2,)", content=bytes(8)):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    ("member", "text"),
    [
        (npy(shape="(1000000000000,)"), r"w: shape: .* is 4000000000000 bytes, but 8 follow"),
        (npy(shape="(9999999999, 9999999999)"), "w: shape: the sizes are beyond any array"),
        (npy(shape="(-2,)"), "w: shape: the size of dimension 0 is negative"),
        (npy(shape="(3,)"), r"w: shape: \(3,\) of float32 is 12 bytes, but 8 follow"),
        (npy(shape="(1,)"), "w: shape: .* is 4 bytes, but 8 follow"),
        (npy(descr="<i4"), "w: descr: '<i4' is not float32 or float64"),
        (npy(descr="|O"), "w: descr: '.O' is not float32 or float64"),
        (npy()[:20], "w: header: the file ends"),
        (b"", "w: magic number: "),
    ],
)
def test_an_npz_that_lies(tmp_path, member, text):
    npz_with(tmp_path / "w.npz", w=member)
    with pytest.raises(ValueError, match=rf"w\.npz: {text}"):
        load_weights(tmp_path / "w.npz")


class Explosive:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_objects_are_refused_without_unpickling(tmp_path):
    np.savez(tmp_path / "w.npz", w=np.array([Explosive()]))
    with pytest.raises(ValueError, match=r"w: descr: '.O' is not float32 or float64"):
        load_weights(tmp_path / "w.npz")


def test_members_that_are_no_arrays_of_their_own(tmp_path):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", b"hello")
    with pytest.raises(ValueError, match=r"unexpected member 'readme.txt': arrays end in .npy"):
        load_weights(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", npy(shape="(1000,)", content=bytes(4000)))
        shared = copy.copy(archive.filelist[0])
        shared.filename = "v.npy"
        archive.filelist.append(shared)
    with pytest.raises(ValueError, match=r"w\.npz: members overlap: "):
        load_weights(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", npy())
        archive.writestr("v.npy", npy())
        archive.filelist[1].filename = "w.npy"
    with pytest.raises(ValueError, match=r"w\.npz: w: stands in the file twice"):
        load_weights(path)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"w": ("F32", [10**12], [0, 8])}, "header: "),
        ({"w": ("F32", [10**12], [0, 4 * 10**12])}, "header: "),
        ({"w": ("F32", [2**63, 2**63], [0, 8])}, "header: "),
        ({"w": ("F32", [0, 2**63], [0, 0])}, "w: shape: the sizes are beyond any array"),
        ({"w": ("F32", [-2], [0, 8])}, "header: "),
        ({"w": ("F32", [2], [0, 8]), "v": ("F32", [2], [0, 8])}, "header: "),
        ({"w": ("I64", [1], [0, 8])}, "w: dtype: I64, expected F32 or F64"),
        ({"w": ("BF16", [4], [0, 8])}, "w: dtype: BF16, expected F32 or F64"),
        ({"w": ("pickle", [4], [0, 8])}, "header: "),
        (3, "header: "),
    ],
)
def test_a_safetensors_file_that_lies(tmp_path, header, text):
    if isinstance(header, dict):
        fields = ("dtype", "shape", "data_offsets")
        header = {name: dict(zip(fields, entry, strict=True)) for name, entry in header.items()}
    said = json.dumps(header).encode()
    empty = b"[0, 0]" in said
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(said)) + said + (b"" if empty else bytes(8)))
    with pytest.raises(ValueError, match=rf"w\.safetensors: {text}"):
        load_weights(path)


def test_a_safetensors_header_longer_than_the_file(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(ValueError, match="header: "):
        load_weights(tmp_path / "w.safetensors")
