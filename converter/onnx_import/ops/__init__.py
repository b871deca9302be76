"""One op family a file. Importing this package registers the handlers."""

from converter.onnx_import.ops import (
    activation,
    arithmetic,
    axes,
    convolution,
    elementwise,
    linear,
    normalisation,
    nothing,
    padding,
    pooling,
    reduce,
    resize,
    shape,
)

__all__ = [
    "activation",
    "arithmetic",
    "axes",
    "convolution",
    "elementwise",
    "linear",
    "normalisation",
    "nothing",
    "padding",
    "pooling",
    "reduce",
    "resize",
    "shape",
]
