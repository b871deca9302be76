"""The closed op set. Importing this package registers every op."""

from seenn.ops.activation import Activation, LeakyReLU, ReLU
from seenn.ops.arithmetic import Add, BatchNorm, ChannelAffine, Concat, Scale
from seenn.ops.base import Op, State, StatefulOp, StatelessOp, Synapse, make_op, op_kinds, register
from seenn.ops.border import BorderPad
from seenn.ops.cumulative import CumulativeDifference
from seenn.ops.neuron import IFNeuron, Neuron, if_step, neuron_kind, reset, signed_if_step
from seenn.ops.pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d
from seenn.ops.resize import Resize
from seenn.ops.shape import Flatten, Mean, Pad, Permute, Reshape, Slice
from seenn.ops.synapse import Conv2d, Linear
from seenn.ops.two_sided import TwoSidedIFNeuron, two_sided_if_step

__all__ = [
    "Activation",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "Add",
    "AvgPool2d",
    "BatchNorm",
    "BorderPad",
    "ChannelAffine",
    "Concat",
    "Conv2d",
    "CumulativeDifference",
    "Flatten",
    "IFNeuron",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Mean",
    "Neuron",
    "Op",
    "Pad",
    "Permute",
    "ReLU",
    "Reshape",
    "Resize",
    "Scale",
    "Slice",
    "State",
    "StatefulOp",
    "StatelessOp",
    "Synapse",
    "TwoSidedIFNeuron",
    "if_step",
    "make_op",
    "neuron_kind",
    "op_kinds",
    "register",
    "reset",
    "signed_if_step",
    "two_sided_if_step",
]
