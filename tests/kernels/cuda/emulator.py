"""Runs a kernel's own Python source as a GPU would, PTX helpers included: slow, and strict.

Every thread of a block is a Python thread, of which one runs at a time: until it comes to something
that its warp (ldmatrix, mma.sync) or its block (barriers) does together. What differs from Numba's
simulator: the helpers of ptx.py are here, as the PTX ISA describes them; whole numbers that leave
their type raise; reading what no one wrote gives NaN; and asynchronous copies arrive at a time of
the caller's choice:

    late     when the thread waits for them and not before, so that a missing wait is seen
    early    at once, so that a stage that is filled while others still read it is seen
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import count
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np

from fastcnn.kernels.cuda.target import Helper

POISON = np.uint32(0x7FC0BAD0)  # a NaN


def uint32(value: Any) -> int:
    """A whole number as Numba has it in 32 bits; negative ones come from int32 alone."""
    value = int(value)
    assert -(2**31) <= value < 2**32, value
    return value & 0xFFFFFFFF


def int32(value: Any) -> int:
    value = int(value)
    assert -(2**31) <= value < 2**31, value
    return value


def as_float(word: int) -> np.float32:
    return np.uint32(word).view(np.float32)


def as_word(number: np.float32) -> int:
    return int(np.float32(number).view(np.uint32))


def round_tf32(number: np.float32) -> int:
    """As the assembler does it: the bits below stay, whatever they are after the carry."""
    word = as_word(number)
    return word + 0x1000 if (word & 0x7F800000) != 0x7F800000 else word


def cut(words: np.ndarray) -> np.ndarray:
    """What the tensor core sees of float32 words: 10 bits of mantissa."""
    return (words & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


def toward_zero(numbers: np.ndarray) -> np.ndarray:
    """float32 next to a float64, never farther from zero: the coarsest that PTX allows."""
    near = numbers.astype(np.float32)
    beyond = np.abs(near.astype(np.float64)) > np.abs(numbers)
    return np.where(beyond, np.nextafter(near, np.float32(0)), near)


# Fragments of mma.sync.m16n8k8: (row, column) of each lane's words, by the tables of the PTX ISA.
_LANES = np.arange(32)
_G, _T = _LANES // 4, _LANES % 4
A_PLACES = [(_G, _T), (_G + 8, _T), (_G, _T + 4), (_G + 8, _T + 4)]
B_PLACES = [(_T, _G), (_T + 4, _G)]
C_PLACES = [(_G, 2 * _T), (_G, 2 * _T + 1), (_G + 8, 2 * _T), (_G + 8, 2 * _T + 1)]


def multiply_fragments(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """mma.sync.m16n8k8 in TF32 on what 32 lanes hold: c (32, 4), a (32, 4), b (32, 2)."""
    matrix_a, matrix_b, matrix_c = np.empty((16, 8)), np.empty((8, 8)), np.empty((16, 8))
    for i, place in enumerate(A_PLACES):
        matrix_a[place] = cut(a[:, i])
    for i, place in enumerate(B_PLACES):
        matrix_b[place] = cut(b[:, i])
    for i, place in enumerate(C_PLACES):
        matrix_c[place] = c[:, i]
    with np.errstate(invalid="ignore", over="ignore"):
        sums = toward_zero(matrix_c + matrix_a @ matrix_b)
    return np.stack([sums[place] for place in C_PLACES], axis=1)


class _Group:
    """Threads that do something together: the last to come does it for all."""

    def __init__(self, size: int) -> None:
        self.size, self.given, self.result = size, {}, None

    def meet(self, thread: _Thread, value: Any, do: Any) -> Any:
        self.given[thread.number] = value
        if len(self.given) == self.size:
            self.result = do([self.given[n] for n in sorted(self.given)])
            others = [n for n in self.given if n != thread.number]
            self.given = {}
            thread.block.ready.extend(thread.block.threads[n] for n in sorted(others))
        else:
            thread.block.give_way(thread)
        return self.result


class _Thread(threading.Thread):
    def __init__(self, block: _Block, number: int) -> None:
        super().__init__(daemon=True)
        self.block, self.number = block, number
        self.turn = threading.Lock()
        self.turn.acquire()
        self.groups: list[list[Any]] = []
        self.started: list[Any] = []

    def run(self) -> None:
        self.turn.acquire()
        try:
            if self.block.error is None:
                self.block.call(self)
        except BaseException as error:
            self.block.error = self.block.error or error
        finally:
            self.block.next()

    # What the kernel's names stand for in this thread.

    def names(self) -> dict[str, Any]:
        block = self.block
        warp = block.warps[self.number // 32]

        def copy(words):
            def instruction(shared, word, pointer, element, there):
                assert word % words == 0
                assert not there or element % words == 0
                assert not there or 0 <= element <= len(pointer) - words, (element, len(pointer))
                source = pointer[element : element + words] if there else np.zeros(words, "f4")
                deliver = (shared, word, np.ascontiguousarray(source).view(np.uint32))
                if block.copies == "early":
                    shared[word : word + words] = deliver[2]
                else:
                    shared[word : word + words] = POISON
                    self.started.append(deliver)

            return instruction

        def commit():
            self.groups.append(self.started)
            self.started = []

        def wait_all_but(n):
            while len(self.groups) > n:
                for shared, word, values in self.groups.pop(0):
                    shared[word : word + len(values)] = values

        def load_matrices(shared, word):
            assert word % 4 == 0

            def rows(words):
                matrices = np.stack([shared[w : w + 4] for w in words]).reshape(4, 8, 4)
                return matrices[:, _G, _T].T

            return tuple(int(w) for w in warp.meet(self, word, rows)[self.number % 32])

        def load_quad(shared, word):
            assert word % 4 == 0
            return tuple(int(w) for w in shared[word : word + 4])

        def load_row(pointer, element):
            assert element % 4 == 0
            assert 0 <= element < len(pointer), (element, len(pointer))
            return tuple(int(w) for w in pointer[element : element + 4])

        def store_quad(pointer, element, *numbers):
            assert element % 4 == 0
            assert 0 <= element <= len(pointer) - 4
            pointer[element : element + 4] = numbers

        def multiply_tf32(c, a, b):
            def together(given):
                c, a, b = (np.array([g[i] for g in given]) for i in range(3))
                words = a.astype(np.uint32), b.astype(np.uint32)
                return multiply_fragments(c.astype(np.float32), *words)

            return tuple(warp.meet(self, (c, a, b), together)[self.number % 32])

        asked = count()

        def shared_array(size, dtype, alignment):
            assert alignment % 16 == 0
            return block.shared_array(next(asked), size, dtype)

        def local_array(shape, dtype):
            kind = np.uint32 if "uint" in str(dtype) or dtype is uint32 else np.float32
            return np.full(shape, POISON, np.uint32).view(kind)

        cuda = SimpleNamespace(
            threadIdx=SimpleNamespace(x=self.number),
            blockIdx=SimpleNamespace(**dict(zip("xyz", block.index, strict=True))),
            blockDim=SimpleNamespace(x=len(block.threads)),
            gridDim=SimpleNamespace(**dict(zip("xyz", block.grid, strict=True))),
            shared=SimpleNamespace(array=shared_array),
            local=SimpleNamespace(array=local_array),
            syncthreads=lambda: block.everyone.meet(self, None, lambda given: None),
        )
        return {
            "cuda": cuda,
            "uint32": uint32,
            "int32": int32,
            "float32": np.float32,
            "copy_word": copy(1),
            "copy_quad": copy(4),
            "commit_copies": commit,
            "wait_all_but_1": lambda: wait_all_but(1),
            "load_matrices": load_matrices,
            "load_quad": load_quad,
            "load_row": load_row,
            "store_quad": store_quad,
            "multiply_tf32": multiply_tf32,
            "round_tf32": round_tf32,
            "as_float": as_float,
            "as_word": as_word,
        }


def bound(function: Any, names: dict[str, Any]) -> Any:
    """A kernel's or helper's function with other globals, and so all helpers that it calls."""
    found = dict(function.__globals__)
    for name in function.__code__.co_names:
        if name in names:
            found[name] = names[name]
        elif isinstance(found.get(name), Helper):
            found[name] = bound(found[name].function, names)
    return FunctionType(function.__code__, found, function.__name__)


class _Block:
    def __init__(self, function, constants, index, grid, threads, arguments, copies):
        self.function, self.constants, self.arguments = function, constants, arguments
        self.index, self.grid, self.copies = index, grid, copies
        self.threads = [_Thread(self, n) for n in range(threads)]
        self.warps = [_Group(32) for _ in range(threads // 32)]
        self.everyone = _Group(threads)
        self.ready: deque[_Thread] = deque()
        self.error: BaseException | None = None
        self.shared: list[np.ndarray] = []
        self.done = threading.Event()
        self.without: tuple[str, ...] = ()

    def shared_array(self, number, size, dtype):
        """The block's array that each of its threads asks for as its number-th."""
        if number == len(self.shared):
            words = np.full(size, POISON, np.uint32)
            self.shared.append(words if dtype is uint32 else words.view(np.float32))
        return self.shared[number]

    def call(self, thread: _Thread) -> None:
        names = thread.names()
        for name in self.without:
            if name == "syncthreads":
                names["cuda"].syncthreads = lambda: None
            else:
                names[name] = lambda: None
        function = bound(self.function, self.constants | names)
        with np.errstate(invalid="ignore", over="ignore"):
            function(*self.arguments)

    def give_way(self, thread: _Thread) -> None:
        self.next()
        thread.turn.acquire()
        if self.error is not None:
            raise RuntimeError("another thread failed")

    def next(self) -> None:
        if self.error is not None:  # let everyone who waits end
            for thread in self.threads:
                if thread.turn.locked():
                    thread.turn.release()
            self.done.set()
        elif self.ready:
            self.ready.popleft().turn.release()
        else:
            self.done.set()

    def run(self) -> None:
        for thread in self.threads:
            thread.start()
        self.ready.extend(self.threads)
        self.next()
        self.done.wait()
        if self.error is not None:
            raise self.error
        for thread in self.threads:
            thread.join(timeout=10)
            assert not thread.is_alive(), "threads wait for each other"


def run(kernel, constants, grid, threads, arguments, copies="late", without=()):
    """Run a kernel block by block, on flat NumPy arrays.

    The instructions named in `without` do nothing: to see that they are missed.
    """
    plain = {k: int(v) if isinstance(v, np.integer) else v for k, v in constants.items()}
    grid = (*grid, *(1,) * (3 - len(grid)))
    for z in range(grid[2]):
        for y in range(grid[1]):
            for x in range(grid[0]):
                block = _Block(kernel.function, plain, (x, y, z), grid, threads, arguments, copies)
                block.without = without
                block.run()
