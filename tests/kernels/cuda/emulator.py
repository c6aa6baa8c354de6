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


def bf16(number: np.float32) -> int:
    """The upper half of the nearest float32 that has no lower one; ties to even."""
    word = as_word(number)
    if np.isnan(number):
        return 0x7FFF
    return (word + 0x7FFF + (word >> 16 & 1)) >> 16


def f16(number: np.float32) -> int:
    with np.errstate(over="ignore"):
        return 0x7FFF if np.isnan(number) else int(np.float16(number).view(np.uint16))


def _of_bf16(halves: np.ndarray) -> np.ndarray:
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)


def _of_f16(halves: np.ndarray) -> np.ndarray:
    return halves.astype(np.uint16).view(np.float16).astype(np.float64)


# Fragments of mma.sync.m16n8k8: (row, column) of each lane's words, by the tables of the PTX ISA.
_LANES = np.arange(32)
_G, _T = _LANES // 4, _LANES % 4
A_PLACES = [(_G, _T), (_G + 8, _T), (_G, _T + 4), (_G + 8, _T + 4)]
B_PLACES = [(_T, _G), (_T + 4, _G)]
C_PLACES = [(_G, 2 * _T), (_G, 2 * _T + 1), (_G + 8, 2 * _T), (_G + 8, 2 * _T + 1)]
# Those of m16n8k16 in halves, by halves: elements a0 to a7, b0 to b3.
A_HALVES = [(_G + 8 * (i // 2 % 2), 2 * _T + i % 2 + 8 * (i // 4)) for i in range(8)]
B_HALVES = [(2 * _T + i % 2 + 8 * (i // 2), _G) for i in range(4)]


def _product(c, a, b, a_places, b_places, depth):
    """D = A B + C from what 32 lanes hold of each."""
    matrix_a, matrix_b, matrix_c = np.empty((16, depth)), np.empty((depth, 8)), np.empty((16, 8))
    for matrix, held, places in (
        (matrix_a, a, a_places), (matrix_b, b, b_places), (matrix_c, c, C_PLACES),
    ):  # fmt: skip
        for i, place in enumerate(places):
            matrix[place] = held[:, i]
    with np.errstate(invalid="ignore", over="ignore"):
        sums = toward_zero(matrix_c + matrix_a @ matrix_b)
    return np.stack([sums[place] for place in C_PLACES], axis=1)


def multiply_fragments(c: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """mma.sync.m16n8k8 in TF32 on what 32 lanes hold: c (32, 4), a (32, 4), b (32, 2)."""
    return _product(c, cut(a), cut(b), A_PLACES, B_PLACES, 8)


def multiply_halves(value):
    """mma.sync of halves, m16n8k16 or, of half as many words, m16n8k8."""

    def multiply(c, a, b):
        (of_a, of_b), depth = ((a.shape[1], b.shape[1])), 4 * a.shape[1]
        a, b = (value(np.ascontiguousarray(w, np.uint32).view(np.uint16)) for w in (a, b))
        return _product(c, a, b, A_HALVES[: 2 * of_a], B_HALVES[: 2 * of_b], depth)

    return multiply


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

        def loads(pick):
            def load(shared, word):
                assert word % 4 == 0

                def rows(words):
                    return pick(np.stack([shared[w : w + 4] for w in words]).reshape(4, 8, 4)).T

                return tuple(int(w) for w in warp.meet(self, word, rows)[self.number % 32])

            return load

        def transposed(matrices):
            halves = matrices.view(np.uint16).transpose(0, 2, 1)
            return np.ascontiguousarray(halves).view(np.uint32)[:, _G, _T]

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

        def multiplies(product):
            def multiply(c, a, b):
                def together(given):
                    c, a, b = (np.array([g[i] for g in given]) for i in range(3))
                    words = a.astype(np.uint32), b.astype(np.uint32)
                    return product(c.astype(np.float32), *words)

                return tuple(warp.meet(self, (c, a, b), together)[self.number % 32])

            return multiply

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
            "load_matrices": loads(lambda matrices: matrices[:, _G, _T]),
            "load_transposed": loads(transposed),
            "load_quad": load_quad,
            "load_row": load_row,
            "store_quad": store_quad,
            "store_words": store_quad,
            "multiply_tf32": multiplies(multiply_fragments),
            "multiply_bf16": multiplies(multiply_halves(_of_bf16)),
            "multiply_f16": multiplies(multiply_halves(_of_f16)),
            "multiply_f16_by_8": multiplies(multiply_halves(_of_f16)),
            "bf16_pair": lambda low, high: bf16(low) | bf16(high) << 16,
            "f16_pair": lambda low, high: f16(low) | f16(high) << 16,
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
