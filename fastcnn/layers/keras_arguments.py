"""Arguments that the layers on images share, in Keras's terms."""

from __future__ import annotations

from operator import index
from typing import Any

from fastcnn.arguments import sides_of


def check_data_format(data_format: str | None) -> str | None:
    """Return None for what this library uses, (N, C, H, W); ValueError otherwise."""
    if data_format == "channels_last":
        raise ValueError(
            "data_format='channels_last' is not supported: images are (N, C, H, W) here; "
            "transpose yours with x.transpose(0, 3, 1, 2) and leave data_format out"
        )
    if data_format not in (None, "channels_first"):
        raise ValueError(f"data_format must be 'channels_first' or None, but got {data_format!r}")
    return None


def functional_padding(padding: Any) -> Any:
    """Keras's padding as `fastcnn.functional` calls it; other forms unchanged, but checked.

    Keras's "same" gives ceil(size/stride) outputs at any stride, which is "same_upper" there.
    """
    if padding == "same":
        return "same_upper"
    # Only the form is checked here, for an error where the layer is made: any sizes will do.
    sides_of(padding, (1, 1), (1, 1), (1, 1), (1, 1))
    return padding


def positive(value: Any, name: str) -> int:
    """`value` as an int of at least 1; TypeError or ValueError otherwise."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, but got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, but got {value!r}")
    return number
