"""Arguments that the layers on images share, in Keras's terms."""

from __future__ import annotations

from typing import Any

from fastcnn.arguments import padding_of


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
    """Keras's padding as `fastcnn.functional` calls it; other forms checked, as it takes them.

    Keras's "same" gives ceil(size/stride) outputs at any stride, which is "same_upper" there.
    """
    if padding == "same":
        return "same_upper"
    return padding_of(padding)
