"""Converts a timm ResNet-18 and compares it with its spiking copy, step by step.

    python examples/convert_timm_model.py [ann.pth] [--output snn.safetensors]

You learn which calls make a spiking network out of a trained one, how its accuracy grows with every timestep, and
which layer follows the original least. Without ``ann.pth`` (from ``seenn train-ann --model resnet18``, on the digits)
a narrow ResNet-18 is first trained on scikit-learn's digits, which takes a few seconds.
"""

from __future__ import annotations

import argparse

import torch

from converter import convert
from converter.load import LoadedModel, ModelSpec, build_model, load_model
from seenn.data import DataSplits, load_data
from seenn.training import TrainConfig, train_ann


def train(splits: DataSplits) -> LoadedModel:
    """A small ResNet-18 with timm's own code; images of 8×8 pixels get the CIFAR stem."""
    spec = ModelSpec(name="resnet18", kwargs={"channels": (8, 16, 32, 64)}, num_classes=splits.num_classes)
    loaded = build_model(spec, (1, 8, 8))
    train_ann(loaded.module, splits, TrainConfig(epochs=5))
    return loaded


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert a timm ResNet-18 and compare.")
    parser.add_argument("ckpt", nargs="?", help="weights that `seenn train-ann` wrote; trains its own without")
    parser.add_argument("--output", default="snn.safetensors")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    splits = load_data("digits")
    ann = load_model(ModelSpec(name="resnet18"), arguments.ckpt) if arguments.ckpt else train(splits)

    snn = convert(ann, splits, timesteps=8)  # thresholds come from the calibration split, labels are not needed
    sites = {site["site"]: site["relative_error"] for site in snn.manifest["per_site"]}
    print(f"{len(sites)} activations became {len(snn.network.sites)} neurons")

    found = snn.evaluate(splits.test)
    print(f"ANN      {100 * found.ann_accuracy:.2f} % of {found.samples} test images")
    for t, accuracy in enumerate(found.accuracy_per_timestep, 1):
        print(f"SNN t={t}  {100 * accuracy:.2f} %")
    worst = max(sites, key=sites.__getitem__)
    print(f"largest error: {sites[worst]:.3f} of the signal, at {worst}")

    snn.save(arguments.output)
    print(f"wrote {arguments.output}; next: seenn calibrate-exit {arguments.output} --threshold 0.95")


if __name__ == "__main__":
    main()
