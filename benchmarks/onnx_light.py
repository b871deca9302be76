"""onnx's nine light graphs with random weights: as shipped they hold constants, so agreement would prove nothing."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

FOLDER = Path(onnx.__file__).parent / "backend/test/data/light"
SMALL = ("densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet")
LARGE = ("bvlc_alexnet", "vgg19", "zfnet512")  # up to 144 million weights


def reweighted(name: str) -> onnx.ModelProto:
    """The graph up to its logits, with a random initializer for every weight that it makes by ``ConstantOfShape``.

    Matrices and kernels get He's scale, which keeps activations alive through any depth of ReLU layers.
    """
    model = onnx.load(FOLDER / f"light_{name}.onnx")
    random = np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}
    readers = [(node.op_type, i, name) for node in model.graph.node for i, name in enumerate(node.input)]
    unsqueezed = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Unsqueeze"}
    positive = {name for op, i, name in readers if (op == "BatchNormalization" and i in (1, 4)) or (op == "Mul" and i)}
    for node in [node for node in model.graph.node if node.op_type == "ConstantOfShape"]:
        (weight,), shape = node.output, shapes[node.input[0]]
        if len(shape) > 1:
            values = random.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(2 / math.prod(shape[1:])))
        elif positive & {weight, unsqueezed.get(weight)}:
            values = random.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            values = random.normal(0, 0.1, shape).astype(np.float32)
        model.graph.node.remove(node)
        model.graph.initializer.append(numpy_helper.from_array(values, weight))
        model.graph.input.append(helper.make_tensor_value_info(weight, onnx.TensorProto.FLOAT, shape))  # as IR 3 wants
    softmax = model.graph.node[-1]
    if softmax.op_type == "Softmax":
        model.graph.output[0].name = softmax.input[0]
        del model.graph.node[-1]
    return model
