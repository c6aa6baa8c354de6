"""How kernels are compiled: without entries from Python, while the collector of cycles waits."""

import gc

import numpy as np
import pytest
from numba.core import event

from fastcnn.kernels.cpu import threads
from fastcnn.kernels.cpu.jit import config, entry, kernel

pytestmark = pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("FASTCNN_CACHE", "0")  # what is loaded from there is not compiled


def test_a_launched_kernel_has_no_entry_from_python():
    @kernel
    def doubling(task, x):
        x[task] *= 2

    x = np.arange(3.0)
    threads.launch(doubling, 3, 3, x)
    assert x.tolist() == [0, 2, 4]
    (compiled,) = doubling.overloads.values()
    defined = {f.name for f in compiled.library.get_defined_functions()}
    assert compiled.fndesc.llvm_func_name in defined
    assert compiled.fndesc.llvm_cpython_wrapper_name not in defined
    assert compiled.fndesc.llvm_cfunc_wrapper_name not in defined


def test_python_can_call_a_kernel_before_and_after_a_launch():
    @kernel
    def tripling(task, x):
        x[task] *= 3

    x = np.arange(3.0)
    tripling(1, x)
    threads.launch(tripling, 3, 3, x)
    tripling(2, x)
    assert x.tolist() == [0, 9, 18]


def test_an_entry_is_compiled_once_for_its_types():
    @entry
    def total(x):
        answer = 0.0
        for value in x:
            answer += value
        return answer

    assert [total(np.arange(n, dtype=np.float64)) for n in (2, 3)] == [1, 3]
    assert len(total.overloads) == 1


class _Collector(event.Listener):
    """Notes whether Python's collector was on while something compiled."""

    def __init__(self):
        self.seen = []

    def on_start(self, _event):
        self.seen.append(gc.isenabled())

    def on_end(self, _event):
        self.seen.append(gc.isenabled())


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_waits_for_a_compilation_and_is_as_before(enabled):
    @entry
    def failing_for_text(x):
        return x + 1

    listener, before = _Collector(), gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with event.install_listener("numba:compile", listener):
            assert failing_for_text(1) == 2
        with pytest.raises(Exception, match="No implementation of function"):
            failing_for_text("text")
        after = gc.isenabled()
    finally:
        (gc.enable if before else gc.disable)()
    assert listener.seen
    assert not any(listener.seen)
    assert after is enabled
