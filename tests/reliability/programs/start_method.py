"""Numba's first launch fixes multiprocessing's default start method; contexts stay free."""

import multiprocessing

import pytest
import work

multiprocessing.set_start_method("spawn")
work.digest()
assert multiprocessing.get_start_method() == "spawn"
with pytest.raises(RuntimeError, match="context has already been set"):
    multiprocessing.set_start_method("fork")
assert multiprocessing.get_context("forkserver").get_start_method() == "forkserver"
