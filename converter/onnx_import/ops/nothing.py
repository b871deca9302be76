"""Nodes that change no value in inference."""

from __future__ import annotations

from onnx import TensorProto

from converter.onnx_import.registry import OnnxCall, Result, imports
from seenn.capture import Refused


@imports("Identity")
def identity(call: OnnxCall) -> Result:
    """The same value."""
    return call.traced()


@imports("Dropout")
def dropout(call: OnnxCall) -> Result:
    """The same value, unless it is told to train."""
    if call.value(2) is not None and bool(call.array(2)):
        raise Refused("is always on (training_mode)", "export the model in inference mode")
    return call.traced()


@imports("Cast")
def cast(call: OnnxCall) -> Result:
    """Activations are float32 already; other types would round them."""
    if call.attribute("to") != TensorProto.FLOAT:
        raise Refused("casts activations to another type", "export the model in float32")
    return call.traced()
