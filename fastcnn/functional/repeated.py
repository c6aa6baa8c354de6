"""Calls that are made again and again on arrays of the same form.

Reading arguments, looking at arrays and handing them to compiled code takes 5 to 30 us a call; the
arithmetic of a small layer takes less than one. So the eighth call with the same shapes, types and
parameters leaves a recipe (kernels/cpu/recipe.py), and later ones only look whether it is theirs:

    known = repeated("conv2d", parameters, x, w, b)     the results, or None: do it the long way
    ...
    perform(chosen, parameters, (x, w, b), (y,))        runs the plan, and counts

A recipe serves NumPy's own arrays in canonical form alone, and only while plans stay as they were
when it was made: another precision or tuning makes others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from marshal import dumps
from typing import Any, NamedTuple

import numpy as np

from fastcnn.arguments import is_plain
from fastcnn.arrays import Array
from fastcnn.kernels.plans import Plan, in_force, is_recording, plan, recipe_of
from fastcnn.memory import RESULTS

# Calls before a recipe is made: compiling what a new operation needs takes 0.1 s.
_WARM_UP = 8
# Forms of calls kept; a network has tens.
_KEPT = 1024
# Bytes of a call's arrays, of which making its recipe takes four copies.
_MOST_BYTES = 16 << 20


class _Known(NamedTuple):
    """A form of calls, and how to repeat one.

    Attributes
    ----------
    form : bytes
        See `_form`.
    in_force : object
        What `plans.in_force` said.
    results : tuple
        Of each output what makes it, its shape and type.
    run : callable
        Of the addresses of inputs and outputs; returns what the implementation does, or how many
        numbers it could not take; None or NaN if it did nothing.
    answers, transforms : bool
        Which of both.
    recipe : Recipe
        Whose `run` it is.
    """

    form: bytes
    in_force: object
    results: tuple[Any, ...]
    run: Callable[..., float | None]
    answers: bool
    transforms: bool
    recipe: Any


_Parameters = tuple[Any, ...]
# By `_key`: calls that differ in the other arrays' shapes, or in types.
_known: dict[bytes, list[_Known]] = {}
# By `_form`.
_counts: dict[bytes, tuple[Plan, int]] = {}


def _key(operation: str, parameters: _Parameters, first: Any) -> bytes | None:
    """Where to look for calls like this one; None for what has no shape, like lists.

    As bytes 1, 1.0 and True differ, which in a dictionary's tuples they do not.
    """
    try:
        return dumps((operation, parameters, first.shape), 2)
    except (AttributeError, ValueError):
        return None


def _form(operation: str, parameters: _Parameters, inputs: Sequence[Any]) -> bytes | None:
    """What calls that one recipe serves have in common; None if they cannot have one."""
    forms = [None if a is None else (a.shape, a.dtype.char) for a in inputs]
    try:
        return dumps((operation, parameters, forms), 2)
    except ValueError:
        return None


def repeated(operation: str, parameters: tuple[Any, ...], *inputs: Any) -> list[Any] | None:
    """The results of a call that has a recipe; None where it has none.

    They are the arrays, and behind them what `perform` returns if it is a number.

    Parameters
    ----------
    operation : str
    parameters : tuple
        All other arguments, as the caller wrote them.
    *inputs : ndarray, None or anything
        As the caller gave them.
    """
    key = _key(operation, parameters, inputs[0])
    if key is None:
        return None
    for known in _known.get(key, ()):
        if known.in_force is not in_force():
            continue
        results: list[Any] = [make(shape, dtype) for make, shape, dtype in known.results]
        answer = known.run(*map(id, inputs), *map(id, results))
        if answer is None or answer != answer or (answer and known.transforms):
            continue
        if known.answers:
            results.append(answer)
        return results
    return None


def perform(
    chosen: Plan,
    parameters: tuple[Any, ...],
    inputs: tuple[Any, ...],
    outputs: tuple[Array, ...],
    **options: Any,
) -> Any:
    """Run a plan, as `repeated` will if such calls go on; returns what the implementation does.

    Parameters
    ----------
    chosen : Plan
    parameters : tuple
        As `repeated` takes them.
    inputs, outputs : tuples of arrays
        In canonical form.
    **options
        What else the implementation takes.
    """
    g = chosen.problem.geometry
    answer = chosen.run(g, *inputs, *outputs, **options)
    if chosen.small and not is_recording():
        _count(chosen, parameters, inputs, outputs, options, answer is not None)
    return answer


def _maker(output: Array) -> Callable[..., Array]:
    """What makes results like this one; asking the pool takes longer than NumPy."""
    return np.empty if output.nbytes < RESULTS.least else RESULTS.empty


def _count(
    chosen: Plan,
    parameters: tuple[Any, ...],
    inputs: tuple[Any, ...],
    outputs: tuple[Array, ...],
    options: dict[str, Any],
    answers: bool,
) -> None:
    """Count a call, and make the recipe of those like it when there were enough.

    Again after twice as many: a NaN can have kept a transform from one.
    """
    operation, g = chosen.problem.operation, chosen.problem.geometry
    if sum(a.nbytes for a in (*inputs, *outputs) if a is not None) > _MOST_BYTES:
        return
    key, form = _key(operation, parameters, inputs[0]), _form(operation, parameters, inputs)
    if key is None or form is None or not is_plain(parameters):
        return
    if form not in _counts and len(_counts) >= _KEPT:
        _counts.clear()
        _known.clear()
    before, count = _counts.get(form, (chosen, 0))
    count = count + 1 if before is chosen else 1
    _counts[form] = chosen, count
    stale = any(k.recipe.stale for k in _known.get(key, ()) if k.form == form)
    if not ((count >= _WARM_UP and not count & (count - 1)) or (stale and not count % _WARM_UP)):
        return
    mark = in_force()
    if mark is None or plan(operation, g, chosen.problem.dtype, chosen.algorithm) is not chosen:
        return  # within `only`, or plans were forgotten meanwhile
    run, transforms = partial(chosen.run, g, **options), chosen.implementation.transforms
    recipe = recipe_of(run, list(inputs), list(outputs), transforms)
    if recipe is not None:
        results = tuple((_maker(a), a.shape, np.dtype(a.dtype.type)) for a in outputs)
        others = [k for k in _known.get(key, ()) if k.form != form]
        made = _Known(form, mark, results, recipe.run, answers, transforms, recipe)
        _known[key] = [made, *others]
