"""``seenn train-direct``: reserved for training spiking networks from scratch."""

from __future__ import annotations

import click

from cli.common import Failure


@click.command(
    name="train-direct",
    short_help="Not available in this version.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="")
def train_direct(arguments: tuple[str, ...]) -> None:
    """Train a spiking network directly with surrogate gradients (not available in this version)."""
    raise Failure(
        "UnsupportedError",
        "direct training is not part of this version; train an ANN and convert it: "
        "seenn train-ann --model resnet18, then seenn convert --model resnet18 --ckpt ann.pth",
    )
