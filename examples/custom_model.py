"""Two ways in for a network of your own: convert it, or write it with neurons yourself.

    python examples/custom_model.py

You learn that conversion needs nothing from a model but its ``forward``, that ``seenn.capture`` turns a module with
``seenn.IFNeuron`` into the same kind of network, and what running one step by step with explicit state looks like.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import seenn
from converter import convert
from seenn.data import load_data
from seenn.training import TrainConfig, train_ann


class SmallNet(nn.Module):
    """Two convolutions and a skip; ``activation()`` makes what sits after each: ``nn.ReLU`` or a neuron."""

    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 32, 3, padding=1)
        self.act1, self.act2 = activation(), activation()
        self.head = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.first(x))
        x = self.act2(self.second(x) + x)
        return self.head(nn.functional.avg_pool2d(x, 2).flatten(1))


torch.manual_seed(0)
splits = load_data("digits")
images, labels = splits.test.images(), splits.test.labels
# 1. Convert: train the ReLU network, then let calibration choose a threshold for every channel.
ann = SmallNet(nn.ReLU)
train_ann(ann, splits, TrainConfig(epochs=6))
answers = convert(ann, splits, timesteps=8).predict(images)
print(f"converted: {100 * (answers.labels == labels).double().mean():.2f} % after 8 steps")

# 2. Capture: the same weights in a module that holds neurons with thresholds of our own choice.
spiking = SmallNet(lambda: seenn.IFNeuron(v_threshold=0.5, max_spikes=4))
spiking.load_state_dict(ann.state_dict(), strict=False)  # the thresholds are not in the ANN
network = seenn.capture(spiking, images[:2])
print("captured:", ", ".join(f"{node}.{name}" for node, name in network.state_layout))

state, total = None, 0.0
with torch.no_grad():
    for t in range(1, 9):
        output, state = network.step(images, state)  # the membranes go in and come out: nothing to reset
        total = total + output
        print(f"captured t={t}: {100 * (total.argmax(-1) == labels).double().mean():.2f} %")
