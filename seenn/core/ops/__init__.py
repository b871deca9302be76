"""The closed op set. Importing this package registers every op of its folder, one file each."""

import importlib
import pkgutil

from seenn.core.ops.activation import QCFS, Activation, Identity, LeakyReLU, Quantise, Quantiser, ReLU, quantiser
from seenn.core.ops.arithmetic import Add, ChannelAffine, Concat, Scale, Shift
from seenn.core.ops.base import (
    Geometry,
    Initialisation,
    Op,
    Rearrangement,
    State,
    StatefulOp,
    StatelessOp,
    Synapse,
    make_op,
    op_kinds,
    register,
)
from seenn.core.ops.batch_norm import BatchNorm
from seenn.core.ops.border import BorderPad
from seenn.core.ops.cumulative import CumulativeDifference, IncrementalProduct
from seenn.core.ops.elementwise import Constant, ElementwiseAffine
from seenn.core.ops.encoder import Encoder
from seenn.core.ops.floored_neuron import FlooredNeuron
from seenn.core.ops.leaky_relu_neuron import LeakyReLUNeuron, leaky_relu_if_step
from seenn.core.ops.leaky_sum import LeakySum
from seenn.core.ops.lif import LIFNeuron
from seenn.core.ops.lowering import Lowering, Value
from seenn.core.ops.neuron import IFNeuron, IntegratingNeuron, Neuron, if_step, reset, signed_if_step
from seenn.core.ops.normalisation import L2Normalise, LayerNorm, LocalResponseNorm, RMSNorm, Softmax
from seenn.core.ops.patches import Fold, Unfold
from seenn.core.ops.pointwise import Pointwise
from seenn.core.ops.pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d
from seenn.core.ops.prepass import PrepassIFNeuron
from seenn.core.ops.product import Divide, Einsum, MatMul, Maximum, Multiply, Product
from seenn.core.ops.quantiser_neuron import QuantiserNeuron
from seenn.core.ops.reduction import L2Norm, Largest, Variance
from seenn.core.ops.resize import Resize
from seenn.core.ops.select import Expand, Take
from seenn.core.ops.shape import Flatten, Mean, Pad, Permute, Reshape, Slice
from seenn.core.ops.synapse import Conv2d, Linear

TwoSidedIFNeuron, two_sided_if_step = LeakyReLUNeuron, leaky_relu_if_step  # their names in 0.1

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

__all__ = [
    "QCFS",
    "Activation",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "Add",
    "AvgPool2d",
    "BatchNorm",
    "BorderPad",
    "ChannelAffine",
    "Concat",
    "Constant",
    "Conv2d",
    "CumulativeDifference",
    "Divide",
    "Einsum",
    "ElementwiseAffine",
    "Encoder",
    "Expand",
    "Flatten",
    "FlooredNeuron",
    "Fold",
    "Geometry",
    "IFNeuron",
    "Identity",
    "IncrementalProduct",
    "Initialisation",
    "IntegratingNeuron",
    "L2Norm",
    "L2Normalise",
    "LIFNeuron",
    "Largest",
    "LayerNorm",
    "LeakyReLU",
    "LeakyReLUNeuron",
    "LeakySum",
    "Linear",
    "LocalResponseNorm",
    "Lowering",
    "MatMul",
    "MaxPool2d",
    "Maximum",
    "Mean",
    "Multiply",
    "Neuron",
    "Op",
    "Pad",
    "Permute",
    "Pointwise",
    "PrepassIFNeuron",
    "Product",
    "Quantise",
    "Quantiser",
    "QuantiserNeuron",
    "RMSNorm",
    "ReLU",
    "Rearrangement",
    "Reshape",
    "Resize",
    "Scale",
    "Shift",
    "Slice",
    "Softmax",
    "State",
    "StatefulOp",
    "StatelessOp",
    "Synapse",
    "Take",
    "TwoSidedIFNeuron",
    "Unfold",
    "Value",
    "Variance",
    "if_step",
    "leaky_relu_if_step",
    "make_op",
    "op_kinds",
    "quantiser",
    "register",
    "reset",
    "signed_if_step",
    "two_sided_if_step",
]
