"""Layers that a forward pass calls and that are not part of the model, so that ``eval()`` does not reach them."""

from __future__ import annotations

from contextlib import suppress

from torch import Tensor, nn

from seenn.capture.failure import lists_of_layers
from seenn.capture.state import WorkingCopy, run_apart
from seenn.errors import UnsupportedError

#: Compute something else in training mode.
_OF_MODE = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd, nn.RReLU)


def refuse_unreached(model: nn.Module, images: Tensor) -> None:
    """Raises UnsupportedError for lists or dictionaries of layers that are called in training mode."""
    called: dict[str, list[str]] = {}
    with WorkingCopy(model) as copied:
        for where, layers in lists_of_layers(copied.model).items():
            for part in (part for layer in layers for part in layer.modules()):
                if part.training and isinstance(part, _OF_MODE):
                    kinds = called.setdefault(where, [])
                    part.register_forward_pre_hook(lambda one, _, kinds=kinds: kinds.append(type(one).__name__))
        if called:
            with suppress(Exception):  # which is no other one for the model itself
                run_apart(copied.model, (images,))
    for where, kinds in called.items():
        if kinds:
            raise UnsupportedError(
                f"{where} holds layers ({', '.join(dict.fromkeys(kinds))}) that are not part of the model, so that "
                "neither eval() nor state_dict() reaches them: keep them in nn.ModuleList or nn.ModuleDict"
            )
