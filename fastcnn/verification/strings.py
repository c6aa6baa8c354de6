"""The grammar of problem strings: keys with numbers, such as n8c64h56k64r3p1.

A string is a sequence of parts in any order, each once: a key and its value. A value is one number,
several joined by "x" (p1x2 is a pair, p0x2x1x0 four sides), a word (psame_upper), or nothing for a
flag (ceil).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

Value = tuple[int, ...] | str

# Words before their own beginnings: "same_upper" would otherwise be read as "same".
_WORDS = r"same_upper|same_lower|same|valid"
_NUMBERS = r"\d+(?:x\d+)*"


class ProblemError(ValueError):
    """A problem string that cannot be read; names the offending part."""


def read(text: str, keys: Mapping[str, str]) -> dict[str, Value]:
    """Split a problem string into its parts.

    Parameters
    ----------
    text : str
    keys : mapping of str to str
        Each key's form: "number", "numbers", "padding" (numbers or a word) or "flag".

    Returns
    -------
    dict
        The parts given: a tuple of ints, a word, or () for a flag.

    Raises
    ------
    ProblemError
        An unknown part, a part given twice, a missing or surplus value.
    """
    # Longer keys first, so that "st2" is a stride and not a kernel width.
    names = "|".join(sorted(keys, key=len, reverse=True))
    part = re.compile(rf"({names})({_NUMBERS}|{_WORDS})?")
    values: dict[str, Value] = {}
    position = 0
    while position < len(text):
        match = part.match(text, position)
        if match is None:
            raise ProblemError(
                f"problem {text!r}: cannot read {text[position:]!r}; the parts are "
                f"{', '.join(keys)}, each followed by its number"
            )
        key, value = match.groups()
        whole = match.group()
        if key in values:
            raise ProblemError(f"problem {text!r}: {key!r} is given twice, again as {whole!r}")
        values[key] = _value(text, whole, keys[key], value)
        position = match.end()
    return values


def _value(text: str, whole: str, form: str, value: str | None) -> Value:
    if form == "flag":
        if value is not None:
            raise ProblemError(f"problem {text!r}: {whole!r} takes no value")
        return ()
    if value is None:
        raise ProblemError(f"problem {text!r}: {whole!r} lacks its value")
    if not value[0].isdigit():
        if form != "padding":
            raise ProblemError(f"problem {text!r}: {whole!r} must have a number, not a word")
        return value
    numbers = tuple(int(n) for n in value.split("x"))
    lengths = {"number": (1,), "numbers": (1, 2), "padding": (1, 2, 4)}[form]
    if len(numbers) not in lengths:
        wanted = " or ".join(str(n) for n in lengths)
        raise ProblemError(
            f"problem {text!r}: {whole!r} must have {wanted} numbers, but has {len(numbers)}"
        )
    return numbers


def need(text: str, values: Mapping[str, Value], keys: Mapping[str, str]) -> None:
    """ProblemError unless all of `keys` are given; says what each is for."""
    missing = [f"{key} ({meaning})" for key, meaning in keys.items() if key not in values]
    if missing:
        raise ProblemError(f"problem {text!r}: missing {', '.join(missing)}")


def part(key: str, value: Sequence[int] | str, default: Sequence[int] = ()) -> str:
    """A part as text, as short as it can be said; nothing if the value is the default."""
    if isinstance(value, str):
        return key + value
    if tuple(value) == tuple(default):
        return ""
    if len(set(value)) == 1:
        value = value[:1]
    elif len(value) == 4 and value[0] == value[1] and value[2] == value[3]:
        value = (value[0], value[2])
    return key + "x".join(str(v) for v in value)
