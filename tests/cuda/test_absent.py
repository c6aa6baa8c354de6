"""What is said where something is missing, and that the CPU side needs none of it."""

from types import SimpleNamespace

import numpy as np
import pytest

import fastcnn
from fastcnn.kernels.cuda import target
from fastcnn.kernels.cuda.target import package
from fastcnn.layers import Dense
from fastcnn.verification import compare
from tests.cuda.conftest import INSTALLED, needs_extra, run_program


class OnDevice:
    """What says of itself that it lives on a GPU."""

    @property
    def __cuda_array_interface__(self):
        return {"shape": (2,), "typestr": "<f4", "data": (0, False), "version": 3}


ENTRIES = {
    "an array": lambda: fastcnn.functional.relu(OnDevice()),
    "to_device": lambda: fastcnn.to_device(np.zeros(2)),
    "to_host": lambda: fastcnn.to_host(OnDevice()),
    "a layer": lambda: Dense(2, backend="cuda").forward(np.zeros((1, 3), np.float32)),
    "compare": lambda: compare(["relu"], device="cuda"),
}


@pytest.fixture
def without_the_extra(monkeypatch):
    found = package.find_spec
    hidden = lambda name: None if name == "numba_cuda" else found(name)  # noqa: E731
    monkeypatch.setattr(package, "find_spec", hidden)
    target.missing_device.cache_clear()
    yield
    target.missing_device.cache_clear()


@pytest.mark.parametrize("entry", ENTRIES)
def test_without_the_extra_every_entry_says_what_to_install(entry, without_the_extra):
    with pytest.raises(fastcnn.CudaUnavailable) as error:
        ENTRIES[entry]()
    assert str(error.value) == (
        "arrays on a GPU need the CUDA extra, which is not installed: pip install 'fastcnn[cuda]'"
    )


@needs_extra
@pytest.mark.parametrize("entry", ENTRIES)
def test_without_a_driver_every_entry_says_so(entry):
    if target.missing_device() is None:
        pytest.skip("there is a GPU here")
    with pytest.raises(fastcnn.CudaUnavailable, match=r"^the CUDA package is installed, but"):
        ENTRIES[entry]()


@pytest.mark.parametrize(("version", "usable"), [(12080, False), (13000, True), (13010, True)])
def test_a_driver_that_is_too_old_says_so(version, usable, monkeypatch):
    monkeypatch.setattr(package, "missing_package", lambda: None)
    monkeypatch.setattr(package, "cuda", SimpleNamespace(gpus=["one"]))
    asked = SimpleNamespace(cuDriverGetVersion=lambda: (0, version))
    monkeypatch.setattr(package.driver, "_find", lambda: asked)
    found = package.missing_device.__wrapped__()
    if usable:
        assert found is None
    else:
        assert found.startswith(
            "the NVIDIA driver is of CUDA 12.8, and kernels are compiled for CUDA 13.0: install"
        )


def test_the_cpu_side_imports_nothing_of_cuda():
    assert run_program("cpu_alone").split() == ["0.0"]


def test_the_extra_is_seen_where_it_is():
    assert (target.missing_package() is None) == INSTALLED
