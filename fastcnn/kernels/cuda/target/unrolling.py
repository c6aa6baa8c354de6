"""Loops written out by the compiler, however long: small local arrays then are registers."""

from __future__ import annotations

from typing import Any


def unroll(function: Any) -> None:
    """Ask the compiler, in its IR, to write out all loops of a function that it can count.

    A loop is known by the jump that closes it: to a block on the path that led to it. LLVM's
    metadata for a loop names itself first.
    """
    module = function.module
    wish = module.add_metadata(["llvm.loop.unroll.full"])
    path: set[Any] = set()
    done: set[Any] = set()

    def visit(block: Any) -> None:
        path.add(block)
        jump = block.terminator
        for target in (o for o in jump.operands if hasattr(o, "terminator")):
            if target in path:
                loop = module.add_metadata([wish, block.name])
                loop.operands = (loop, wish)
                jump.set_metadata("llvm.loop", loop)
            elif target not in done:
                visit(target)
        path.discard(block)
        done.add(block)

    visit(function.entry_basic_block)
