"""Words of memory that several threads change at a time."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

# Words from one thread's to the next: a cache line and the one that is fetched along with it.
APART = 16


def _swap_typer(typingctx, words, place, old, new):
    """`swap(words, place, old, new)`: put `new` at a place if it holds `old`; whether it did.

    What a thread has written before is seen by the thread that swaps after it.
    """

    def codegen(context, builder, signature, arguments):
        words, place, old, new = arguments
        array = context.make_array(signature.args[0])(context, builder, words)
        answer = builder.cmpxchg(builder.gep(array.data, [place]), old, new, "acq_rel", "acquire")
        return builder.extract_value(answer, 1)

    return types.boolean(words, types.int64, types.int64, types.int64), codegen


swap: Any = intrinsic(_swap_typer)


def _look_typer(typingctx, words, place):
    """`look(words, place)`: what a place holds now."""

    def codegen(context, builder, signature, arguments):
        words, place = arguments
        array = context.make_array(signature.args[0])(context, builder, words)
        return builder.load_atomic(builder.gep(array.data, [place]), "acquire", 8)

    return types.int64(words, types.int64), codegen


look: Any = intrinsic(_look_typer)
