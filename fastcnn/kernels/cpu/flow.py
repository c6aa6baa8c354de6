"""Vector code by hand: what is done on a condition, or in rounds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any


class Flow:
    """The part of Emitter (simd.py) that writes branches and loops at its builder's position."""

    builder: Any
    index: Callable[[int], Any]

    @contextmanager
    def where(self, condition, carried):
        """What is done only if a condition holds, to values that are kept if it does not.

        Yields a Branch: assign `next` before the block ends; afterwards it holds what came out.
        """
        builder, before = self.builder, self.builder.block
        inside, done = (builder.append_basic_block(name) for name in ("inside", "outside"))
        builder.cbranch(condition, inside, done)
        builder.position_at_end(inside)
        branch = Branch(carried)
        yield branch
        after = builder.block
        builder.branch(done)
        builder.position_at_end(done)
        merged = []
        for kept, new in zip(carried, branch.next, strict=True):
            value = builder.phi(kept.type)
            value.add_incoming(kept, before)
            value.add_incoming(new, after)
            merged.append(value)
        branch.next = merged

    @contextmanager
    def loop(self, count, carried):
        """A loop of `count` rounds, at least one, that carries values from round to round.

        Yields a Loop: `number` and `values` are this round's; assign `next` before the block ends.
        Afterwards `next` holds the last round's.
        """
        builder, before = self.builder, self.builder.block
        body = builder.append_basic_block("round")
        builder.branch(body)
        builder.position_at_end(body)
        zero = self.index(0)
        number = builder.phi(zero.type)
        number.add_incoming(zero, before)
        values = []
        for initial in carried:
            value = builder.phi(initial.type)
            value.add_incoming(initial, before)
            values.append(value)
        loop = Loop(number, values)
        yield loop
        after = builder.add(number, self.index(1))
        number.add_incoming(after, builder.block)
        for value, following in zip(values, loop.next, strict=True):
            value.add_incoming(following, builder.block)
        done = builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", after, count), body, done)
        builder.position_at_end(done)


class Loop:
    """A loop that is being written: see `Emitter.loop`."""

    def __init__(self, number, values):
        self.number, self.values = number, values
        self.next = values


class Branch:
    """Something done on a condition: see `Emitter.where`."""

    def __init__(self, carried):
        self.next = carried


def chosen(builder, condition, then, otherwise):
    """Vectors of `then()` if the condition holds, else of `otherwise()`."""
    with builder.if_else(condition) as (is_so, is_not):
        with is_so:
            values = then()
            after_then = builder.block
        with is_not:
            others = otherwise()
            after_else = builder.block
    merged = []
    for value, other in zip(values, others, strict=True):
        phi = builder.phi(value.type)
        phi.add_incoming(value, after_then)
        phi.add_incoming(other, after_else)
        merged.append(phi)
    return merged
