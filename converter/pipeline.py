"""Everything `seenn convert` does: calibrate, check, and write down where the network comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from converter.check import CheckReport, check
from converter.config import ConvertConfig
from converter.convert import Conversion, convert
from converter.load import LoadedModel
from seenn.analysis.synops import analog_nodes, dense_cost
from seenn.checkpoint import Checkpoint
from seenn.core.network import SpikingNetwork
from seenn.data import DataSplits
from seenn.errors import CalibrationError
from seenn.rounded import with_rounding
from seenn.version import versions

DEFAULT_CALIBRATION_IMAGES = 512
DEFAULT_CHECK_IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class ConvertedCheckpoint:
    """A checkpoint ready to be saved, with the evidence for it."""

    checkpoint: Checkpoint
    conversion: Conversion
    check: CheckReport

    def to_json(self) -> dict[str, Any]:
        """What ``seenn convert --json`` prints."""
        return {
            "sites": len(self.conversion.sites),
            "neurons": len(self.conversion.network.sites),
            "ann_accuracy": self.check.ann_accuracy,
            "accuracy_per_timestep": list(self.check.accuracy_per_timestep),
            "agreement": self.check.agreement,
            "check_split": "exit",
            "check_samples": self.check.samples,
            "diverged": self.check.diverged,
            "per_site": per_site(self.conversion, self.check),
            "analog": self.checkpoint.manifest["analog"],
            "float64_difference": self.conversion.float64_difference,
            "conversion": self.checkpoint.manifest["conversion"],
            "source": self.checkpoint.manifest["source"],
            "data": self.checkpoint.manifest["data"],
        }


def convert_checkpoint(
    loaded: LoadedModel,
    splits: DataSplits,
    config: ConvertConfig,
    *,
    calibration_images: int | None = None,
    check_images: int = DEFAULT_CHECK_IMAGES,
    device: torch.device | str = "cpu",
    seed: int = 0,
    source: Mapping[str, Any] | None = None,
    progress: Callable[[str, int], None] = lambda site, total: None,
) -> ConvertedCheckpoint:
    """Converts on the calibration split and checks on the exit split; the test split is never looked at.

    Args:
        loaded: the model, from ``converter.load``.
        splits: prepared as the model wants them.
        config: how to convert.
        calibration_images: how many; None takes 512, or all where there are fewer.
        check_images: how many images of the exit split compare ANN and SNN.
        seed: recorded; conversion itself draws nothing at random.
        source: what to record about the model beside its own record, for example the file's name.

    Raises:
        CalibrationError: fewer calibration images than asked for, or a mismatch of images and model.
    """
    available = len(splits.calibration)
    wanted = min(DEFAULT_CALIBRATION_IMAGES, available) if calibration_images is None else calibration_images
    if wanted > available:
        raise CalibrationError(
            f"{wanted} calibration images were asked for and the calibration split of {splits.spec} has {available}: "
            f"ask for at most {available}"
        )
    channels = loaded.spec.in_chans
    if channels is not None and channels != splits.preprocessing.channels:
        raise CalibrationError(
            f"the model takes images of {channels} channels, {splits.spec} is prepared with "
            f"{splits.preprocessing.channels}: name the data it was trained on with --data"
        )
    if loaded.spec.num_classes is not None and loaded.spec.num_classes < splits.num_classes:
        raise CalibrationError(
            f"the model knows {loaded.spec.num_classes} classes, {splits.spec} has {splits.num_classes}: "
            "name the data it was trained on with --data"
        )
    images = splits.calibration.images(limit=wanted)
    conversion = convert(loaded.module, images, config, device=device, progress=progress)
    report = check(conversion.network, splits.exit.batches(64, limit=check_images), config.timesteps)
    manifest = {
        "source": {**loaded.record, **(source or {})},
        "data": splits.manifest(),
        "class_names": list(splits.class_names),
        "conversion": config.to_json(),
        "timesteps": config.timesteps,
        "calibration_images": wanted,
        "seed": seed,
        "versions": versions(),
        "check": {
            "split": "exit",
            "samples": report.samples,
            "ann_accuracy": report.ann_accuracy,
            "accuracy_per_timestep": list(report.accuracy_per_timestep),
            "agreement": report.agreement,
            "float64_difference": conversion.float64_difference,
            "diverged": report.diverged,
        },
        "per_site": per_site(conversion, report),
        "analog": analog_report(conversion.network),
    }
    made = Checkpoint(network=conversion.network, preprocessing=splits.preprocessing, manifest=manifest)
    checkpoint = with_rounding(made, splits.calibration)
    return ConvertedCheckpoint(checkpoint=checkpoint, conversion=conversion, check=report)


def analog_report(network: SpikingNetwork) -> dict[str, Any]:
    """What of a network is not spikes: nodes by name, and multiply-accumulates per image."""
    cost = dense_cost(network)
    return {
        "wholly": not network.sites,  # nothing spikes
        "nodes": analog_nodes(network),
        "ann_macs": cost.ann,
        "macs_once": cost.once,
        "macs_per_step": cost.per_step,
        "share_of_macs": cost.analog_share,
    }


def per_site(conversion: Conversion, report: CheckReport) -> list[dict[str, Any]]:
    """Each site's thresholds, and its error on images that calibration did not see."""
    return [
        {
            **asdict(site),
            "calibration_error": site.relative_error,
            "relative_error": report.relative_error[site.site],
        }
        for site in conversion.calibration.reports
    ]
