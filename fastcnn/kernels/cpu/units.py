"""The processor's vector instructions, and the register tiles that suit them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from numba.core.registry import cpu_target

from fastcnn.kernels.cpu.jit import config


@dataclass(frozen=True)
class VectorUnit:
    """What a processor's vector instructions offer, and the register tile that suits them.

    Attributes
    ----------
    name : str
    features : frozenset of str
        LLVM's names of the features that it takes.
    bytes, registers : int
        Size of a vector, and how many there are.
    rows, vectors : int
        A tile of rows x vectors accumulators: enough to hide the latency of a multiply-add (4
        cycles, two a cycle: 8 accumulators at least), few enough to leave registers for the
        vectors of B and one element of A.
    short_rows : int
        A second tile, of fewer rows, that fills up what whole tiles leave over: 64 rows are 4 x 14
        and 8, where 5 x 14 would multiply 6 rows of zeros.
    mask_registers : bool
        Whether masks have registers of their own. Where they have none, a tile without split
        vectors has a loop without masks, which would take registers from its accumulators.
    dots : (int, int)
        Rows and columns of a tile whose accumulators are vectors of partial sums; the vectors of
        both sides are loaded.
    fused : bool
        Whether it multiplies and adds in one instruction.
    picks : bool
        Whether one instruction picks each lane of a vector from any of two others, by numbers in a
        register (vpermt2ps).
    """

    name: str
    features: frozenset[str]
    bytes: int
    registers: int
    rows: int
    vectors: int
    short_rows: int
    mask_registers: bool
    dots: tuple[int, int]
    fused: bool = True
    picks: bool = False

    def lanes(self, itemsize: int) -> int:
        """Elements of this size in a vector."""
        return self.bytes // itemsize


# Widest first. Tiles: 28 of 32 registers, 12 of 16, 16 of 32 (NEON multiplies by an element of a
# register, so that A's rows are loaded as vectors and need registers too). The last suits whatever
# else LLVM knows, such as x86 with SSE2 alone: vectors of 16 bytes, which LLVM splits where there
# are none, and 8 of 16 registers, for a product needs one of its own before it is added.
UNITS = (
    VectorUnit("AVX-512", frozenset({"avx512f"}), 64, 32, 14, 2, 8, True, (6, 4), picks=True),
    VectorUnit("AVX2", frozenset({"avx2", "fma"}), 32, 16, 6, 2, 4, False, (3, 3)),
    VectorUnit("NEON", frozenset({"neon"}), 16, 32, 8, 2, 4, False, (4, 4)),
    VectorUnit("generic", frozenset(), 16, 16, 4, 2, 2, False, (2, 2), fused=False),
)


@cache
def vector_unit() -> VectorUnit | None:
    """The widest unit that Numba compiles for here; None if nothing is compiled.

    Numba's own target is asked, not the processor, so that NUMBA_CPU_FEATURES counts.
    """
    if config.DISABLE_JIT:
        return None
    triple, _, listed = cpu_target.target_context.codegen().magic_tuple()
    features = {name[1:] for name in listed.split(",") if name.startswith("+")}
    if triple.startswith(("aarch64", "arm64")):
        features.add("neon")  # part of the architecture, not always listed
    return next(unit for unit in UNITS if unit.features <= features)


@cache
def streams_to_l2() -> bool:
    """Whether streams from memory are fetched into L2, and not into L1 as well.

    On Zen 4 depthwise layers took half the time with L2 alone, where L1's few misses in flight no
    longer bound them; on Zen 5 such fetches were 5 to 20 % slower (docs/performance.md).
    """
    return cpu_target.target_context.codegen().magic_tuple()[1] == "znver4"


def known_unit() -> VectorUnit:
    """`vector_unit` for kernels that are refused where there is none."""
    unit = vector_unit()
    assert unit is not None, "this kernel needs a vector unit"
    return unit
