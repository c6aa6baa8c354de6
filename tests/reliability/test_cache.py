"""The cache of compiled kernels: hits, misses, many processes, broken files, no place to write."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from fastcnn.kernels.cpu.cache import _Entries
from tests.calls import calls
from tests.reliability.conftest import PACKAGE, finish, start

ADVICE = (
    "Set NUMBA_CACHE_DIR to a writable folder to keep them, or FASTCNN_CACHE=0 to silence this."
)


def counted(output: str) -> tuple[int, str]:
    """What the program `compilations` printed."""
    count, digest = output.split()
    return int(count), digest


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a copy of the package, to be changed."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "site" / "fastcnn", ignore=ignored)
    return tmp_path / "site"


def replace(path: Path, old: str, new: str) -> None:
    """Edit a file, which must contain `old` once."""
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_second_process_compiles_nothing(run, tmp_path):
    first, digest = counted(run("compilations", "quick_results", cache=tmp_path))
    assert first > 0
    assert counted(run("compilations", "quick_results", cache=tmp_path)) == (0, digest)


def test_second_process_compiles_nothing_of_any_kind(run):
    """Kernels that emit code and those that launch threads are kept too."""
    _, digest = counted(run("compilations", "results"))
    assert counted(run("compilations", "results")) == (0, digest)


def test_edit_of_a_helper_file_is_noticed(run, site, tmp_path):
    """The padding's zero, in a file that the convolution's kernels only import."""
    settings = {"PYTHONPATH": str(site), "cache": tmp_path / "cache"}
    columns = site / "fastcnn" / "kernels" / "cpu" / "columns.py"
    assert run("padded", **settings) == "0.0"
    before = {path.name for path in settings["cache"].rglob("*.nbc")}
    replace(columns, "zero = columns.dtype.type(0)", "zero = columns.dtype.type(3)")
    assert run("padded", **settings) == "24.0"
    after = {path.name for path in settings["cache"].rglob("*.nbc")}
    assert len(after) == len(before)  # the stale entries are gone
    assert not after & before


def test_edit_of_an_emitter_is_noticed(run, site, tmp_path):
    settings = {"PYTHONPATH": str(site), "cache": tmp_path / "cache"}
    folder = site / "fastcnn" / "kernels" / "cpu"
    emitter = folder / "emitter.py"
    emitter.write_text(
        "from numba import types\n"
        "from numba.extending import intrinsic\n"
        "@intrinsic\n"
        "def constant(typingctx):\n"
        "    def codegen(context, builder, signature, args):\n"
        "        return context.get_constant(types.float64, 5.0)\n"
        "    return types.float64(), codegen\n"
    )
    (folder / "emitting.py").write_text(
        "from fastcnn.kernels.cpu.emitter import constant\n"
        "from fastcnn.kernels.cpu.jit import kernel\n"
        "@kernel\n"
        "def chunk(task, out):\n"
        "    out[task] = constant()\n"
    )
    assert run("emitted", **settings) == "5.0"
    replace(emitter, "5.0", "7.0")
    assert run("emitted", **settings) == "7.0"


def test_eight_cold_processes_at_once(run, tmp_path):
    processes = [start("compilations", "quick_results", cache=tmp_path) for _ in range(8)]
    outputs = [finish(process) for process in processes]
    assert all(err == "" for _, err in outputs)
    digests = {counted(out)[1] for out, _ in outputs}
    assert len(digests) == 1
    assert counted(run("compilations", "quick_results", cache=tmp_path)) == (0, *digests)
    assert not list(tmp_path.rglob("*.tmp"))


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def empty(content: bytes) -> bytes:
    return b""


def flip_one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_broken_files_are_compiled_anew(run, tmp_path):
    _, digest = counted(run("compilations", "quick_results", cache=tmp_path))
    paths = sorted(tmp_path.rglob("*.nbc"))
    damages = [truncate, empty, flip_one_bit]
    for i, path in enumerate(paths):
        path.write_bytes(damages[i % len(damages)](path.read_bytes()))
    count, repeated = counted(run("compilations", "quick_results", cache=tmp_path))
    assert count >= len(paths) > 2 * len(damages)
    assert repeated == digest
    assert counted(run("compilations", "quick_results", cache=tmp_path)) == (0, digest)


def test_files_of_other_content_are_compiled_anew(run, tmp_path):
    """Entries that are whole, but were saved under another name."""
    _, digest = counted(run("compilations", "quick_results", cache=tmp_path))
    paths = sorted(tmp_path.rglob("*.nbc"))
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    count, repeated = counted(run("compilations", "quick_results", cache=tmp_path))
    assert count >= len(paths)
    assert repeated == digest


@pytest.fixture
def read_only(site: Path) -> dict[str, str]:
    """Settings for a process that can write neither beside the package nor at home.

    A file in a folder's place stops root too, whom permission bits do not.
    """
    for folder in (site / "fastcnn").rglob("*"):
        if folder.is_dir():
            (folder / "__pycache__").write_text("in the way")
    return {"PYTHONPATH": str(site), "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}


def test_read_only_installation_and_home(read_only, run, tmp_path):
    plain = start("compilations", "quick_results", cache=None, warnings="default", **read_only)
    out, err = finish(plain)
    assert counted(out)[0] > 0
    assert err.count("RuntimeWarning") == 1
    assert (
        "fastcnn compiles its kernels anew in every process: no folder for the cache is writable. "
        + ADVICE
    ) in err
    # and both remedies that the warning names
    finish(start("compilations", "quick_results", cache=tmp_path / "cache", **read_only))
    again = run("compilations", "quick_results", cache=tmp_path / "cache", **read_only)
    assert counted(again)[0] == 0
    out, err = finish(
        start("compilations", "quick_results", cache=None, FASTCNN_CACHE="0", **read_only)
    )
    assert counted(out)[0] > 0
    assert err == ""


def test_places_in_order(site, tmp_path):
    """NUMBA_CACHE_DIR, `__pycache__` beside the source, the user's cache folder."""
    beside, named, home = site / "fastcnn/kernels/cpu/__pycache__", tmp_path / "a", tmp_path / "b"
    settings = {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(home)}
    for cache, place in ((named, named), (None, beside), (None, home)):
        finish(start("compilations", "quick_results", cache=cache, **settings))
        places = {p: any(p.rglob("*.nbc")) for p in (named, beside, home) if p.exists()}
        assert {p for p, found in places.items() if found} == {place}
        shutil.rmtree(place)
        if place == beside:
            beside.write_text("in the way")


def test_cache_folder_that_goes_away(run, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    message = run("cache_goes_away", cache=cache)
    assert message.startswith("fastcnn compiles its kernels anew in every process: writing to ")
    assert message.endswith(ADVICE)


def test_full_disk_leaves_no_half_written_file(tmp_path, monkeypatch):
    entries = _Entries(tmp_path, "file.function", "stamp")

    def write_bytes(path, content):
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match="No space left"):
        entries.save("key", "data")
    assert list(tmp_path.iterdir()) == []
    assert entries.load("key") is None


def test_entries(tmp_path):
    """Keys and stamps are kept apart; a new stamp removes the old one's entries, and no others."""
    old, other = _Entries(tmp_path, "f.g", 1), _Entries(tmp_path, "f.g_too", 1)
    for entries in (old, other):
        entries.save("a", "data a")
        entries.save("b", "data b")
    new = _Entries(tmp_path, "f.g", 2)
    assert [old.load("a"), old.load("b"), old.load("c")] == ["data a", "data b", None]
    assert new.load("a") is None
    new.save("a", "new data")
    assert [old.load("a"), old.load("b"), new.load("a")] == [None, None, "new data"]
    assert other.load("b") == "data b"
    new.flush()
    assert new.load("a") is None
    assert other.load("a") == "data a"


def test_entries_for_another_processor_are_kept_beside(run, tmp_path):
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    _, digest = counted(run("compilations", "quick_results", cache=tmp_path))
    count, _ = counted(run("compilations", "quick_results", cache=tmp_path, **other))
    assert count > 0
    assert counted(run("compilations", "quick_results", cache=tmp_path)) == (0, digest)
    assert counted(run("compilations", "quick_results", cache=tmp_path, **other))[0] == 0


def test_no_cache_on_request(run, tmp_path):
    count, _ = counted(run("compilations", "quick_results", cache=tmp_path, FASTCNN_CACHE="0"))
    assert count > 0
    assert list(tmp_path.iterdir()) == []


def test_without_compiler(run, tmp_path):
    """NUMBA_DISABLE_JIT=1: the portable kernels run as Python."""
    assert run("without_compiler", cache=tmp_path, NUMBA_DISABLE_JIT="1") == str(len(calls()))
    assert list(tmp_path.iterdir()) == []
