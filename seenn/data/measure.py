"""Mean and standard deviation of images, for data sets without published ones."""

from __future__ import annotations

import torch
from torch import Tensor

from seenn.data.preprocessing import Preprocessing
from seenn.data.source import Images
from seenn.errors import DataError


def measure(where: object, images: Images, indices: Tensor) -> Preprocessing:
    """Preprocessing with the images' own size, and the mean and std of each channel over all their pixels.

    Counted on histograms, so the order of the images changes nothing.

    Raises:
        DataError: a channel has the same value everywhere.
    """
    pixels = torch.cat(list(images.blocks(indices)))  # [N, C, H, W]
    histograms = torch.stack([channel.flatten().bincount(minlength=256) for channel in pixels.unbind(1)])
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = histograms.double() / histograms.sum(1, keepdim=True)  # [C, 256]
    mean = share @ levels
    std = (share * (levels - mean.unsqueeze(1)).square()).sum(1).sqrt()
    constant = [channel for channel, counts in enumerate(histograms) if (counts > 0).sum() == 1]
    if constant:
        raise DataError(f"{where}: channels {constant} have the same value in every pixel of the train split")
    return Preprocessing(
        channels=pixels.shape[1],
        height=pixels.shape[2],
        width=pixels.shape[3],
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
    )
