"""Calls that are made again and again on arrays of the same form.

Reading arguments, looking at arrays and handing them to compiled code takes 5 to 30 us a call; the
arithmetic of a small layer takes less than one. So the eighth call with the same shapes, types and
parameters leaves a recipe (kernels/cpu/recipe.py), and later ones only look whether it is theirs:

    known = repeated("conv2d", parameters, x, w, b)     the results, or None: do it the long way
    ...
    perform(chosen, parameters, (x, w, b), (y,))        runs the plan, and counts

A recipe serves NumPy's own arrays in canonical form alone, and only while the plan is still the
one that it was made from: another precision, list of implementations or tuning makes another plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from marshal import dumps
from typing import Any, NamedTuple

import numpy as np

from fastcnn.arguments import is_plain
from fastcnn.arrays import Array
from fastcnn.kernels.plans import Plan, is_recording, plan, recipe_of
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
    plan : Plan
        What the recipe was made from.
    asked : tuple
        What `plan` is asked, to see whether it is still the same.
    types, results : tuples
        Types of the inputs (None for none); of the outputs what makes them, shapes and types.
    run : callable
        Of inputs and outputs; returns what the implementation does, or how many numbers it could
        not take; None if it did nothing.
    answers, transforms : bool
        Which of both.
    recipe : Recipe
    """

    plan: Plan
    asked: tuple[Any, ...]
    types: tuple[Any, ...]
    results: tuple[Any, ...]
    run: Callable[..., float | None]
    answers: bool
    transforms: bool
    recipe: Any


_Parameters = tuple[Any, ...]
_known: dict[bytes, _Known] = {}
_counts: dict[bytes, tuple[Plan, int]] = {}


def _key(operation: str, parameters: _Parameters, inputs: Sequence[Any]) -> bytes | None:
    """What calls that one recipe serves have in common; None for what has no shape, like lists.

    As bytes 1, 1.0 and True differ, which in a dictionary's tuples they do not.
    """
    try:
        shapes = [None if a is None else a.shape for a in inputs]
        return dumps((operation, parameters, inputs[0].dtype.char, shapes), 2)
    except (AttributeError, ValueError):
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
    key = _key(operation, parameters, inputs)
    known = None if key is None else _known.get(key)
    if known is None or plan(*known.asked) is not known.plan:
        return None
    for a, dtype in zip(inputs, known.types, strict=True):
        if a is not None and not (type(a) is np.ndarray and a.dtype is dtype and a.flags.carray):
            return None
    results: list[Any] = [make(shape, dtype) for make, shape, dtype in known.results]
    answer = known.run(*inputs, *results)
    if answer is None or (answer and known.transforms):
        return None
    if known.answers:
        results.append(answer)
    return results


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
    """Count a call, and make the recipe of those like it when there were enough."""
    problem = chosen.problem
    g = problem.geometry
    types = tuple(None if a is None else np.dtype(a.dtype.type) for a in inputs)
    if sum(a.nbytes for a in (*inputs, *outputs) if a is not None) > _MOST_BYTES:
        return
    key = _key(problem.operation, parameters, inputs)
    if key is None or not is_plain(parameters):
        return
    if key not in _counts and len(_counts) >= _KEPT:
        _counts.clear()
        _known.clear()
    before, count = _counts.get(key, (chosen, 0))
    count = count + 1 if before is chosen else 1
    _counts[key] = chosen, count
    known = _known.get(key)
    if count == _WARM_UP or (known is not None and known.recipe.stale and not count % _WARM_UP):
        run, transforms = partial(chosen.run, g, **options), chosen.implementation.transforms
        recipe = recipe_of(run, list(inputs), list(outputs), transforms)
        if recipe is not None:
            asked = problem.operation, g, problem.dtype, chosen.algorithm
            results = tuple((_maker(a), a.shape, np.dtype(a.dtype.type)) for a in outputs)
            how = recipe.run, answers, transforms, recipe
            _known[key] = _Known(chosen, asked, types, results, *how)
