"""The closed op set. Importing this package registers every op."""

from seenn.ops.activation import QCFS, Activation, ReLU
from seenn.ops.arithmetic import Add, BatchNorm, ChannelAffine, Concat, Scale
from seenn.ops.base import Op, State, StatefulOp, StatelessOp, Synapse, make_op, op_kinds, register
from seenn.ops.cumulative import CumulativeDifference
from seenn.ops.lif import LIFNeuron
from seenn.ops.neuron import IFNeuron, Neuron, if_step, neuron_kind, reset, signed_if_step
from seenn.ops.pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d
from seenn.ops.shape import Flatten, Mean, Pad, Permute, Reshape, Slice
from seenn.ops.synapse import Conv2d, Linear

__all__ = [
    "QCFS",
    "Activation",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "Add",
    "AvgPool2d",
    "BatchNorm",
    "ChannelAffine",
    "Concat",
    "Conv2d",
    "CumulativeDifference",
    "Flatten",
    "IFNeuron",
    "LIFNeuron",
    "Linear",
    "MaxPool2d",
    "Mean",
    "Neuron",
    "Op",
    "Pad",
    "Permute",
    "ReLU",
    "Reshape",
    "Scale",
    "Slice",
    "State",
    "StatefulOp",
    "StatelessOp",
    "Synapse",
    "if_step",
    "make_op",
    "neuron_kind",
    "op_kinds",
    "register",
    "reset",
    "signed_if_step",
]
