"""2-D max pooling."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from fastcnn.arguments import pair
from fastcnn.geometry import pool2d_geometry

from .base import Array, Layer, Shape
from .keras_arguments import check_data_format, functional_padding


class MaxPool2D(Layer):
    """The maximum of every window of every channel (SEEDS.md S0, S2, S4).

    Backward, only the elements that were a maximum get a gradient; where windows overlap, those
    of all windows that chose an element add up.

    Parameters
    ----------
    pool_size : int or (int, int)
        Height and width of the window.
    strides : int or (int, int), optional
        The window's own size by default.
    padding : str, int, (int, int) or four ints
        As in `Conv2D`; padding never is a maximum.
    data_format : None or "channels_first"
        For Keras's sake; images are (N, C, H, W).
    dilation : int or (int, int)
        Distance between the cells of a window.
    ceil_mode : bool
        Let the last window hang over the end (PyTorch's rule).
    dtype, backend, name
        As in `Layer`.

    Raises
    ------
    TypeError, ValueError
        Arguments that fit no pooling. `data_format="channels_last"` is refused with advice.
    """

    input_rank = 4

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = "valid",
        data_format: str | None = None,
        *,
        dilation: Any = 1,
        ceil_mode: bool = False,
        dtype: npt.DTypeLike = "float32",
        backend: str = "auto",
        name: str | None = None,
    ) -> None:
        super().__init__(dtype=dtype, backend=backend, name=name)
        self.pool_size = pair(pool_size, "pool_size")
        self.strides = None if strides is None else pair(strides, "strides")
        self.padding = padding
        self.data_format = check_data_format(data_format)
        self.dilation = pair(dilation, "dilation")
        self.ceil_mode = bool(ceil_mode)
        self._window = (
            self.pool_size,
            self.strides,
            functional_padding(padding),
            self.dilation,
            self.ceil_mode,
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        g = pool2d_geometry((1, *self._expect_rank(input_shape)), *self._window)
        return (input_shape[0], *g.output_shape[1:])

    def _forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        result = self.ops.max_pool2d(x, *self._window, return_mask=training)
        if not training:
            return result, None
        y, mask = result
        return y, (mask, None, x.shape)

    def forward_rectified(self, z: Any, training: bool = True) -> Array:
        """`forward(relu(z))` in one pass, to the bit.

        `backward` then gives the gradient with respect to z: at z = 0 the derivative of relu is 1.
        Parameters and errors are those of `forward`.
        """
        z = self._accept(z)
        result = self.ops.relu_max_pool2d(z, *self._window, return_mask=training)
        if not training:
            return result
        y, mask, passes = result
        self._kept = mask, passes, z.shape
        return y

    def _backward(self, dy: Any, kept: Any, input_grad: bool) -> Array | None:
        if not input_grad:
            return None
        mask, passes, shape = kept
        if passes is None:
            return self.ops.max_pool2d_grad(dy, mask, shape, *self._window)
        return self.ops.relu_max_pool2d_grad(dy, mask, passes, shape, *self._window)

    def mask_to_input(self) -> Array:
        """Where the last forward pass found its maxima, as the lecture draws it (SEEDS.md S2).

        Returns
        -------
        ndarray of uint8, the shape of the last input
            1 where an element was some window's maximum, else 0.

        Raises
        ------
        RuntimeError
            If no forward pass kept its mask.
        """
        self._expect_kept()
        mask, _, shape = self._kept
        return self.ops.mask_to_input(mask, shape, *self._window)
