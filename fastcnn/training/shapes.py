"""The check of a network's input before any layer computes."""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn.layers import Layer, ReLU, Sigmoid, Softmax, Tanh
from fastcnn.layers.base import Shape

# Layers that are nothing but an activation; they leave the shape as it is.
ACTIVATIONS = (ReLU, Sigmoid, Softmax, Tanh)


def image_rank(layers: Sequence[Layer]) -> int | None:
    """Dimensions of the input with its batch axis, where the first layers tell; else None."""
    for layer in layers:
        if not isinstance(layer, ACTIVATIONS):
            return layer.input_rank
    return None


def walk(layers: Sequence[Layer], input_shape: Shape) -> list[Shape]:
    """Input shape of each layer, and the last one's output; ValueError where one does not fit.

    A size that no parameter depends on, as between convolutions, is free to change.
    """
    shapes: list[Shape] = [(None, *input_shape[1:])]
    for layer in layers:
        needed = layer.parameter_shapes(shapes[-1])
        if layer.built:
            layer.expect_same_parameters(needed, shapes[-1])
        shapes.append(layer.output_shape(shapes[-1]))
    return shapes


def check_images(
    shape: tuple[int, ...],
    rank: int | None,
    built_for: tuple[int, ...] | None,
    layers: Sequence[Layer],
) -> None:
    """ValueError unless a batch of this shape can go through the layers.

    Parameters
    ----------
    shape : tuple of int
        Of the batch.
    rank : int or None
        Dimensions it must have, if that is known.
    built_for : tuple of int or None
        Shape of one image when the parameters were made.
    layers : sequence of Layer
    """
    if rank is not None and len(shape) == rank - 1:
        raise ValueError(
            f"x of shape {tuple(shape)} is one image without a batch axis: pass x[None]; or grey "
            "images without a channel axis: pass x[:, None]"
            if rank == 4
            else f"x of shape {tuple(shape)} has no batch axis: pass x[None] for one row"
        )
    if len(shape) == 0 or (rank is not None and len(shape) != rank):
        raise ValueError(f"x must have {rank or 'at least 1'} dimensions, but has shape {shape}")
    if built_for is None or tuple(shape[1:]) == built_for:
        return
    try:
        walk(layers, shape)
    except ValueError as error:
        if len(built_for) == 3 and tuple(shape[1:]) == (*built_for[1:], built_for[0]):
            raise ValueError(
                f"the network was built for inputs of shape {built_for}, channels first, but x "
                f"has {tuple(shape[1:])}, channels last: pass x.transpose(0, 3, 1, 2)"
            ) from error
        raise ValueError(
            f"the network was built for inputs of shape {built_for}, but x has {tuple(shape[1:])} "
            f"({error}): pass input_shape={tuple(shape[1:])} when you make the network"
        ) from error
