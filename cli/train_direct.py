"""``seenn train-direct``: reserved for training spiking networks from scratch."""

from __future__ import annotations

import click


@click.command(name="train-direct")
def train_direct() -> None:
    """Train a spiking network directly with surrogate gradients (not available in this version)."""
    raise click.ClickException(
        "direct training is not part of this version; train an ANN and convert it: "
        "seenn train-ann --model resnet18, then seenn convert --model resnet18 --ckpt ann.pth"
    )
