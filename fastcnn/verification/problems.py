"""Problems: the shapes that comparisons and benchmarks run on, by name or said in a string.

    n8c64h56k64r3p1       a convolution: 8 images of 64 channels, 56x56; 64 filters 3x3, padding 1
    n8c64h112r3st2p1      a max pooling: windows of 3x3, stride 2
    n64i400o120           a dense layer: 400 inputs, 120 outputs
    64x32x14x14           an array that an operation passes over

Parts of a convolution, in any order; those with a default may be left out:

    n  images                 1        st  stride              1
    c  channels               needed   p   padding             0
    h  height                 needed   d   dilation            1
    w  width                  h        g   groups              1
    k  filters                needed
    r  kernel height          needed
    s  kernel width           r

A stride or dilation is one number or two (st2x1: vertical, horizontal); a padding one, two or four
(p0x2x1x0: top, bottom, left, right), or a word: pvalid, psame, psame_upper, psame_lower. A pooling
has no k and g, its stride is the window by default, and `ceil` rounds its output up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache

from fastcnn.verification.kinds import (
    ConvProblem,
    DenseProblem,
    PoolProblem,
    Problem,
    ShapeProblem,
)
from fastcnn.verification.shapes import SHAPES
from fastcnn.verification.strings import ProblemError, part, read

__all__ = [
    "ConvProblem",
    "DenseProblem",
    "PoolProblem",
    "Problem",
    "ProblemError",
    "ShapeProblem",
    "find",
    "parse",
    "suite",
    "suites",
    "unknown",
]

_FORMS = {
    **dict.fromkeys(("n", "c", "h", "w", "k", "r", "s", "g", "i", "o"), "number"),
    **dict.fromkeys(("st", "d"), "numbers"),
    "p": "padding",
    "ceil": "flag",
}


def parse(text: str, name: str = "") -> Problem:
    """The problem that a string says; see this module's text for the grammar.

    Raises
    ------
    ProblemError
        A ValueError that names the part that cannot be read, or what is not possible about it.
    """
    if re.fullmatch(r"\d+(x\d+)*", text):
        return ShapeProblem(tuple(int(n) for n in text.split("x")), name)
    values = read(text, _FORMS)
    kind: type[ConvProblem | PoolProblem | DenseProblem] = PoolProblem
    if values.keys() & {"i", "o"}:
        kind = DenseProblem
    elif values.keys() & {"k", "g"}:
        kind = ConvProblem
    surplus = [part(key, v) or key for key, v in values.items() if key not in kind.keys]
    if surplus:
        raise ProblemError(
            f"problem {text!r}: a {kind.kind} has no {', '.join(repr(s) for s in surplus)}; its "
            f"parts are {', '.join(kind.keys)}"
        )
    try:
        return kind.of(text, values, name)
    except ProblemError:
        raise
    except ValueError as error:
        raise ProblemError(f"problem {text!r}: {error}") from error


@cache
def suite(name: str) -> tuple[Problem, ...]:
    """All problems of a suite, in its order.

    Raises
    ------
    ValueError
        No suite has this name; suggests one.
    """
    if name not in SHAPES:
        raise ValueError(unknown("suite", name, SHAPES))
    strings = SHAPES[name].problems
    return tuple(parse(text, f"{name}.{layer}") for layer, text in strings.items())


def suites() -> dict[str, str]:
    """Names of all suites, each with the source of its shapes."""
    return {name: shapes.source for name, shapes in SHAPES.items()}


def find(text: str) -> Problem:
    """A problem by name ("vgg16.conv3_2") or from a problem string ("n1c3h8k4r3").

    Raises
    ------
    ValueError
        Neither; suggests a name, or names the part of the string that cannot be read.
    """
    head, dot, _ = text.partition(".")
    if not dot:
        return parse(text)
    named = {problem.name: problem for problem in suite(head)}
    if text not in named:
        raise ValueError(unknown("problem", text, named))
    return named[text]


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """What to say about a name that does not exist: with the nearest one, or all there are."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    if near:
        return f"unknown {what} {name!r}: did you mean {near[0]!r}?"
    return f"unknown {what} {name!r}: choose from {', '.join(known)}"
