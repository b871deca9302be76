"""Functions that torchvision keeps opaque to torch.fx."""

from __future__ import annotations

from torchvision.ops import stochastic_depth

from seenn.capture import Alias, Call, Refused, handles
from seenn.capture.handlers import Result


@handles(stochastic_depth, any_layout=True)
def skipped_branch(call: Call) -> Result:
    """Does nothing outside training."""
    if call.argument(3, "training", True):
        raise Refused("drops branches at random in training mode", "call model.eval() first")
    return Alias(call.args[0])
