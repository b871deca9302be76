"""Products that are summed up over axes by name: of two activations, or of one and a table."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seenn.capture.handlers import IMAGE, Call, Made, Refused, Result, called, handles
from seenn.capture.probed import MOST_WEIGHTS, mapped, ordered
from seenn.core.ops import Constant, Einsum, ElementwiseAffine


@handles("einsum", any_layout=True)
def einsum(call: Call) -> Result:
    equation, operands = call.args[0], call.args[1:]
    if len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    parts = inputs.split(",")
    if len(operands) > 2 or not arrow or "." in equation or any(len({*part}) < len(part) for part in parts):
        raise Refused(f"einsum {equation!r}", "contract one or two values, and name all of their axes, each once")
    return contraction(call, parts, output, operands)


@handles("tensordot", "inner", any_layout=True)
def tensordot(call: Call) -> Result:
    operands = (call.args[0], call.argument(1, "other"))
    dims = call.argument(2, "dims", 2) if called(call.node.target) == "tensordot" else ([-1], [-1])
    if len(call.args) == 4:  # torch.export's operator names the axes of each apart
        dims = call.args[2:]
    ranks = [len(value.meta["shape"]) for value in operands]
    left, right = list(string.ascii_lowercase[: ranks[0]]), list(string.ascii_uppercase[: ranks[1]])
    own, other = (range(-dims, 0), range(dims)) if isinstance(dims, int) else dims
    for i, j in zip(own, other, strict=True):
        right[j] = left[i]
    return contraction(
        call, ["".join(left), "".join(right)], "".join(name for name in left + right if (left + right).count(name) < 2),
        operands,
    )  # fmt: skip


def contraction(call: Call, parts: Sequence[str], output: str, operands: Sequence[Any]) -> Result:
    """``torch.einsum``, with the batch's axis under one letter that stays."""
    equation = f"{','.join(parts)}->{output}"
    free = next(letter for letter in string.ascii_letters if letter not in equation)
    tables = [alike(call, value) for value in operands]
    values = [(part, value) for part, value, table in zip(parts, operands, tables, strict=True) if table is None]
    batch = {part[call.layout(value).axis] for part, value in (*values, (output, call.node))}
    if len(batch) != 1:
        raise Refused(f"einsum {equation!r} contracts the batch", "keep images independent")
    letter = batch.pop()

    def by_image(part: str, value: Any) -> str:
        """The part's letters in the order of the network's axes, without the batch's."""
        layout = call.layout(value)
        return f"{part[: layout.axis]}{free * (layout.fold > 1)}{part[layout.axis + 1 :]}"

    result, (own, *others) = by_image(output, call.node), (by_image(part, value) for part, value in values)
    read = tuple(value for _, value in values)
    if others:
        return Made(Einsum(equation=f"{letter}{own},{letter}{others[0]}->{letter}{result}"), read)
    its, table = next(
        ((part, table) for part, table in zip(parts, tables, strict=True) if table is not None), ("", torch.ones(()))
    )
    its = its.replace(letter, "") if table.dim() < len(its) else its
    if letter in its:
        raise Refused(f"einsum {equation!r} meets each image with a constant of its own", "give all images the same")
    return _with_a_table(call, read[0], own, table.to(read[0].meta["dtype"]), its, result, letter)


def _with_a_table(call: Call, x: Any, own: str, table: Tensor, its: str, result: str, batch: str) -> Result:
    """``einsum(own, its -> result)`` of each image's part of ``x`` and a table: weights along the axes they share."""
    sizes = dict(zip(own, call.image(x), strict=True))
    shared = [name for name in own if name in its or name not in result]
    if not shared and not its:
        others, made = own, x
    elif {*shared} == {*its} & {*result} == {*its}:  # nothing is summed up
        others, made = own, Made(ElementwiseAffine(_beside(table, its, own)), (x,))
    else:
        others = "".join(name for name in own if name not in shared)
        ends = "".join(name for name in result if name not in others)
        free = next(name for name in string.ascii_letters if name not in own + its)
        count = math.prod(sizes[name] for name in shared)
        values = count * math.prod({**sizes, **dict(zip(its, table.shape, strict=True))}[name] for name in ends)
        if values > MOST_WEIGHTS:
            equation = f"{batch}{own},{batch}{its}->{batch}{result}"
            return Made(Einsum(equation=equation), (x, Made(Constant(table), (IMAGE,))))
        basis = torch.eye(count, dtype=table.dtype).view(-1, *(sizes[name] for name in shared))
        weights = torch.einsum(f"{free}{''.join(shared)},{its}->{ends}{free}", basis, table)
        axes = [own.index(name) + 1 for name in shared]
        made = mapped(x, call.image(x), axes, weights.reshape(-1, count), weights.shape[:-1])
        others += ends
    return ordered(made, [others.index(name) for name in result])


def _beside(table: Tensor, its: str, own: str) -> Tensor:
    """The table with its axes in the order of ``own``, and with axes of size 1 for the others."""
    found = table.permute([its.index(name) for name in own if name in its])
    return found.reshape([table.shape[its.index(name)] if name in its else 1 for name in own])


def alike(call: Call, value: Any) -> Tensor | None:
    """A constant without the axis along which it is the same for all images; None for an activation."""
    if (known := call.known(value)) is None or (layout := value.meta["layout"]) is None:
        return known
    return known.squeeze(layout.axis) if layout.fold == 1 else known
