"""Calibration: thresholds that depend on the images only, corrections that help, refusals that say why."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from converter import MMSE, ConvertConfig, Max, Percentile, check, convert_module
from converter.images import MIN_IMAGES, CalibrationImages
from converter.qcfs import with_qcfs
from converter.spill import Series
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.core.ops import IFNeuron
from seenn.data import Split
from seenn.data.numbers import Numbers
from seenn.data.source import ArrayImages, Labelled
from seenn.errors import CalibrationError
from tests.runs import run

BINARY = {"neuron": "if"}


def neurons(network: SpikingNetwork) -> list[IFNeuron]:
    return [op for site in network.sites if isinstance(op := network.graph[site].op, IFNeuron)]


def mean_errors(network: SpikingNetwork, images: Tensor, timesteps: int) -> list[Tensor]:
    """Per site and channel: ANN activation minus mean spike output, averaged over the images."""
    sums: dict[str, Tensor] = {}

    def observe(t: int, rows: Tensor, site: str, count: Tensor) -> None:
        sums[site] = sums[site] + count if site in sums else count

    with torch.no_grad():
        run(network, images, None, timesteps, observe=observe)
        analog = network.analog().evaluate(images, network.sites)
    return [
        (analog[site] - neuron.emit(sums[site]).detach() / timesteps).transpose(0, 1).flatten(1).mean(1)
        for site, neuron in zip(network.sites, neurons(network), strict=True)
    ]


@pytest.mark.parametrize("recipe", [Max(), Percentile(q=99.0), MMSE(), MMSE(per_channel=False)])
def test_order_and_chunks_of_the_images_do_not_matter(
    recipe: Max | Percentile | MMSE, net: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ConvertConfig(recipe=recipe, correction="bias")
    first = neurons(convert_module(net, images, config).network)
    monkeypatch.setattr("converter.sweep._CHUNK", 7)
    random = torch.Generator().manual_seed(5)
    order = torch.cat(
        [start + torch.randperm(24, generator=random) for start in (0, 24)]
    )  # ranges are judged by halves
    second = neurons(convert_module(net, images[order], config).network)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a.v_threshold, b.v_threshold, rtol=1e-5, atol=0)
        assert a.bias is not None
        torch.testing.assert_close(a.bias, b.bias, rtol=1e-3, atol=1e-4)


def test_views_of_one_thing_count_as_one(images: Tensor) -> None:
    groups = [str(number // 4) for number in range(48)]
    stored = Labelled(ArrayImages(images), torch.zeros(48, dtype=torch.int64), groups)
    split = Split("calibration", stored, torch.arange(48), Numbers(shape=(3, 8, 8)))
    assert CalibrationImages(split).independent == 12
    assert CalibrationImages(split, torch.arange(0, 48, 3)).independent == 12
    assert CalibrationImages(split, torch.arange(16)).independent == 4
    assert CalibrationImages(Batch(images)).independent == 48


@pytest.mark.parametrize("chunk", [1, 7])
def test_whose_currents_are_looked_at_does_not_depend_on_chunks(
    chunk: int, net: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("converter.sweep.CURRENT_IMAGES", 12)
    some = neurons(convert_module(net, images).network)
    monkeypatch.setattr("converter.sweep._CHUNK", chunk)
    same = neurons(convert_module(net, images).network)
    monkeypatch.setattr("converter.sweep.CURRENT_IMAGES", 48)
    others = neurons(convert_module(net, images).network)
    for a, b, c in zip(some, same, others, strict=True):
        torch.testing.assert_close(a.v_init, b.v_init, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(a.v_init, c.v_init, rtol=1e-3, atol=1e-4)


def test_one_threshold_a_channel_or_a_site(net: nn.Module, images: Tensor) -> None:
    each = convert_module(net, images, ConvertConfig(recipe=Max(), correction="none"))
    whole = convert_module(net, images, ConvertConfig(recipe=Max(per_channel=False), correction="none"))
    for channels, a, b in zip((8, 12), neurons(each.network), neurons(whole.network), strict=True):
        assert a.v_threshold.shape == (channels,)
        assert b.v_threshold.shape == ()
        assert torch.equal(a.v_threshold.max(), b.v_threshold)
    assert [report.channels for report in whole.calibration.reports] == [8, 12]


@pytest.mark.parametrize("neuron", [BINARY, {"neuron": "signed", "levels": 4}])
@pytest.mark.parametrize("correction", ["bias", "potential"])
def test_corrections_reduce_the_mean_error_of_every_site(
    correction: str, neuron: dict[str, Any], net: nn.Module, images: Tensor
) -> None:
    def errors(correction: str) -> list[float]:
        config = ConvertConfig(**neuron, correction=correction)
        return [
            e.norm().item() for e in mean_errors(convert_module(net, images, config).network, images, config.timesteps)
        ]

    plain, corrected = errors("none"), errors(correction)
    assert all(after < 0.6 * before for before, after in zip(plain, corrected, strict=True)), (plain, corrected)


def test_joint_correction_has_no_more_squared_error_than_a_bias_alone(net: nn.Module, images: Tensor) -> None:
    def first_error(correction: str) -> float:
        config = ConvertConfig(**BINARY, correction=correction)
        error = convert_module(net, images, config).calibration.reports[0].relative_error
        assert error is not None
        return error

    assert first_error("joint") < first_error("bias")


def test_every_site_is_reported(net: nn.Module, images: Tensor) -> None:
    seen: list[tuple[str, int]] = []
    found = convert_module(net, images, progress=lambda site, total: seen.append((site, total)))
    reports = found.calibration.reports
    assert [(report.site, 2) for report in reports] == seen == [("2", 2), ("6", 2)]
    for report, neuron in zip(reports, neurons(found.network), strict=True):
        assert report.threshold_min == neuron.v_threshold.min().item()
        assert report.threshold_max == neuron.v_threshold.max().item()
        assert report.relative_error is not None
        assert 0 < report.relative_error < 0.2
    plain = convert_module(net, images, ConvertConfig(correction="none"))
    assert [report.relative_error for report in plain.calibration.reports] == [None, None]


def test_too_few_images_to_trust_a_range_are_said_with_how_many_would_do(
    net: nn.Module, images: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    outliers = images.clone()
    outliers[30:] *= 40  # the second half of the images is nothing like the first
    with caplog.at_level(logging.WARNING):
        found = convert_module(net, outliers, ConvertConfig(recipe=Max(), correction="none"))
        assert "48 calibration images are too few to trust the ranges of 2 sites: on unseen ones" in caplog.text
        assert "; give about " in caplog.text
        reports = found.calibration.reports
        assert all(0 < report.clipped_unseen < 1 and 0.1 < report.clipped_energy < 1 for report in reports)
        caplog.clear()
        found = convert_module(net, images.repeat(2, 1, 1, 1), ConvertConfig(recipe=Max(), correction="none"))
    assert caplog.text == ""
    assert [report.clipped_unseen for report in found.calibration.reports] == [0, 0]


def silence(net: nn.Module, channels: slice) -> nn.Module:
    net[1].weight.data[channels] = 0  # type: ignore[index, union-attr]
    net[1].bias.data[channels] = -1  # type: ignore[index, union-attr]
    return net


def test_silent_site_is_named(net: nn.Module, images: Tensor) -> None:
    with pytest.raises(CalibrationError, match="site '2' is never active on the calibration images"):
        convert_module(silence(net, slice(None)), images)


def test_silent_channels_borrow_the_largest_threshold_or_are_refused(
    net: nn.Module, images: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    silence(net, slice(2, 4))
    with caplog.at_level(logging.WARNING):
        found = convert_module(net, images, ConvertConfig(correction="none"))
    assert "site 2: 2 of 8 channels were never active in calibration; they borrow" in caplog.text
    assert found.calibration.reports[0].silent_channels == 2
    threshold = neurons(found.network)[0].v_threshold
    assert bool((threshold[2:4] == threshold.max()).all())
    with pytest.raises(CalibrationError, match=r"site '2': 2 of 8 channels are never active .* \(2, 3\)"):
        convert_module(net, images, ConvertConfig(silent_channels="refuse"))


def with_nan(images: Tensor) -> Tensor:
    images = images.clone()
    images[3, 0, 0, 0] = float("nan")
    return images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:15], "15 calibration images are too few: .* give at least 16, better 256"),
        (lambda x: x[:0], "0 calibration images are too few"),
        (with_nan, "the calibration images hold NaN or infinite pixels"),
        (lambda x: x[0, 0, 0], r"must be \[N, C, ...\] or \[N, F\], got shape \[8\]"),
        (lambda x: x.to(torch.uint8), r"are torch\.uint8: prepare them as for the ANN"),
    ],
)
def test_images_that_determine_nothing_are_refused(change: Any, message: str, net: nn.Module, images: Tensor) -> None:
    with pytest.raises(CalibrationError, match=message):
        convert_module(net, change(images), ConvertConfig())


def test_activations_that_overflow_are_refused(net: nn.Module, images: Tensor) -> None:
    net[4].weight.data *= 1e38  # type: ignore[index, union-attr, operator]
    with pytest.raises(CalibrationError, match="site '6': the ANN's activations are not finite"):
        convert_module(net, images)


@pytest.mark.parametrize("correction", ["none", "potential"])
def test_the_memory_that_values_may_take_does_not_matter(correction: str, net: nn.Module, images: Tensor) -> None:
    config = ConvertConfig(correction=correction)
    plenty, some, none = (convert_module(net, images, config, memory=memory) for memory in (1 << 30, 50_000, 0))
    for other in (some, none):
        assert other.network.graph.fingerprint() == plenty.network.graph.fingerprint()
        assert other.calibration.reports == plenty.calibration.reports


def test_temporary_files_have_no_name(
    net: nn.Module, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    written, seen = [], []
    append = Series.append

    def watched(self: Series, tensor: Tensor) -> None:
        append(self, tensor)
        written.append(tensor.nbytes)
        seen.extend(tmp_path.iterdir())

    monkeypatch.setattr(Series, "append", watched)
    convert_module(net, images, memory=0)
    assert sum(written) > images.nbytes
    assert seen == []


def test_images_are_read_a_few_at_a_time(net: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converter.sweep._WORKING", 1)
    seen = []

    class Watched(CalibrationImages):
        def chunks(self, size: int, part: slice) -> Iterator[Tensor]:
            for chunk in super().chunks(size, part):
                seen.append(len(chunk))
                yield chunk

    convert_module(net, Watched(Batch(images)))
    assert max(seen) <= MIN_IMAGES  # those that show what the scores are
    assert seen.count(1) >= len(images)


def free(monkeypatch: pytest.MonkeyPatch, disk: int) -> None:
    usage = shutil.disk_usage(".")._replace(free=disk)
    monkeypatch.setattr("converter.sweep.shutil.disk_usage", lambda folder: usage)


def test_calibration_that_fits_neither_into_memory_nor_on_the_disk_is_refused_first(
    net: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 70_000)
    with pytest.raises(CalibrationError, match=r"on 48 images .* 0\.0 GB of disk in .*: use at most \d\d images, free"):
        convert_module(net, images, memory=1_000)
    free(monkeypatch, 1_000)
    with pytest.raises(CalibrationError, match=r"0\.0 GB of disk in .*: free space, or name another folder by"):
        convert_module(net, images, ConvertConfig(correction="none"), memory=1_000)


def tiny(factor: float) -> nn.Module:
    """The first layer's weights times ``factor``."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5))
    with torch.no_grad():
        for parameter in model[:2].parameters():
            parameter.mul_(factor)
        model[2].bias.zero_()  # type: ignore[union-attr, operator]
    return model


def test_small_weights_get_thresholds_as_small(images: Tensor) -> None:
    found = convert_module(tiny(1e-25), images)
    assert found.calibration.reports[0].threshold_max < 1e-24
    assert max(check(found.network, [Batch(images)], 8).relative_error.values()) < 0.3


def test_activations_whose_sums_overflow_are_refused(images: Tensor) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    with torch.no_grad():
        net[0].weight.mul_(3e37)  # type: ignore[operator]
    with pytest.raises(CalibrationError, match=r"site '1' reaches \d\.\de\+3\d .*: scale the weights before it"):
        convert_module(net, images)


@pytest.mark.parametrize("factor", [1e-30, 1e-37])
def test_weights_whose_products_vanish_are_refused(factor: float, images: Tensor) -> None:
    with pytest.raises(CalibrationError, match=r"site '\d' reaches at most .*e-3\d, which float32 cannot compute with"):
        convert_module(tiny(factor), images)


@pytest.mark.parametrize("correction", ["none", "bias", "potential", "joint"])
def test_a_qcfs_site_that_is_never_active_has_no_error(correction: str, images: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    swapped = with_qcfs(model, images[:2], levels=4)
    with torch.no_grad():
        swapped.get_parameter("0.bias").fill_(-100)
    found = convert_module(swapped, images, ConvertConfig.suited(qcfs_levels=4, correction=correction))
    assert found.calibration.reports[0].relative_error == (None if correction == "none" else 0.0)
    assert check(found.network, [Batch(images)], 4).relative_error == {"1": 0.0}


def test_a_constant_output_and_a_model_without_weights_are_converted(net: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        net[-1].weight.zero_()  # type: ignore[index, union-attr, operator]
        net[-1].bias.zero_()  # type: ignore[index, union-attr, operator]
    found = convert_module(net, images)
    assert found.float64_difference == 0.0
    bare = convert_module(nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), images)
    assert check(bare.network, [Batch(images)], 8).agreement > 0.9
