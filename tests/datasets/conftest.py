"""Shared by the tests of files: a bound on memory, and damage to well-formed content."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import strategies as st

# Far below what any lying header here declares, far above what reading a small file takes.
LITTLE = 8 << 20


def pytest_make_parametrize_id(val):
    """Name a test after the length of the file it is given, not after its content."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.fixture
def little_memory():
    """A context manager that fails if its body takes more than 8 MiB at any time."""

    @contextmanager
    def bounded() -> Iterator[None]:
        tracemalloc.start()
        try:
            yield
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < LITTLE, f"{peak} bytes were taken"

    return bounded


@pytest.fixture(scope="session")
def read_or_refuse():
    """Read a file; None if it is refused with a ValueError that names it. Other errors pass on."""

    def attempt(read, path, named):
        try:
            return read(path)
        except ValueError as err:
            message = str(err)
        assert str(named) in message
        return None

    return attempt


@pytest.fixture(scope="session")
def damaged():
    """A strategy: random bytes, or `content` with some bytes changed, cut out or put in."""

    def build(content: bytes):
        edit = st.tuples(
            st.integers(0, len(content)), st.integers(0, 4), st.binary(min_size=0, max_size=8)
        )

        def apply(edits):
            result = bytearray(content)
            for place, removed, added in edits:
                result[place : place + removed] = added
            return bytes(result)

        mutated = st.lists(edit, min_size=1, max_size=4).map(apply)
        return st.one_of(mutated, st.binary(max_size=200))

    return build
