"""The int8 engine on networks of ImageNet's size, 224 pixels: accepted, exact, how fast, how large, what it loses.

    python benchmarks/int8_imagenet.py --work WORK

EfficientNet-Lite0 is trained, and sees photographs (``benchmarks/photographs.py`` says where both come from); the
others have random weights of unit gain and see noise, which tells about sums and speed but not about accuracy.
Converted networks are kept in the work folder: a second run only measures.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import torch
import torchvision
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, conclude, drop_in_points
from photographs import PREPARED, lite0, photographs
from random_weights import lsuv_initialise

import seenn
from converter import convert
from seenn.analysis.bench.machine import this_machine
from seenn.analysis.bench.timing import alternate, step_of
from seenn.batch import Batch
from seenn.runtime import Engine, Session
from seenn.snn import SNN

COMMAND = "python benchmarks/int8_imagenet.py --work WORK"
TRAINED, T, BATCH = "EfficientNet-Lite0", 8, 16
LEVELS = {TRAINED: 15}  # of a trained network, as in benchmarks/real_networks.py; the default elsewhere
RANDOM: dict[str, Callable[[], nn.Module]] = {
    "ResNet-18": torchvision.models.resnet18,
    "ResNet-50": torchvision.models.resnet50,
    "MobileNetV2": torchvision.models.mobilenet_v2,
}


def noise(count: int, seed: int) -> Tensor:
    """Pixels, uint8 ``[N, 3, 224, 224]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, PREPARED.height, PREPARED.width), generator=generator, dtype=torch.uint8)


def converted(name: str, work: Path) -> SNN:
    """From the work folder, where it is put if it is not there yet."""
    path = work / f"int8-{name}.safetensors"
    if not path.exists():
        click.echo(f"converting {name}", err=True)
        pixels = photographs(work, PREPARED.height)["calibration"].pixels[::4][:60] if name == TRAINED else noise(20, 0)
        model = lite0(work) if name == TRAINED else lsuv_initialise(RANDOM[name]().eval(), PREPARED(pixels[:BATCH]))
        options = {"levels": LEVELS[name], "encoder_levels": LEVELS[name]} if name in LEVELS else {}
        snn = convert(model, pixels, timesteps=T, preprocessing=PREPARED, force=True, check_images=4, **options)
        snn.save(path)
    return seenn.load(path)


def scores(engine: Engine, images: Tensor, slots: int) -> Tensor:
    """Summed logits after T steps, ``[N, K]``."""
    return Session(engine, None, T, slots).run(Batch.of(images, engine.input_shape)).logits_sum


def differing(engine: Engine, images: Tensor) -> int:
    """Scores that another number of slots, order, or number of threads changes."""
    expected, found = scores(engine, images, len(images)), 0
    threads = torch.get_num_threads()
    for slots, order, count in (
        (1, slice(None), threads),
        (5, slice(None), 1),
        (3, torch.arange(len(images)).flip(0), 2),
    ):
        torch.set_num_threads(count)
        try:
            found += int((scores(engine, images[order], slots) != expected[order]).sum())
        finally:
            torch.set_num_threads(threads)
    return found


def measured(name: str, snn: SNN, work: Path, limit: int, repeats: int, vnni: bool) -> Iterator[Row | str]:
    """Rows and notes about one network."""
    engine = snn.make_engine("int8", timesteps=T)
    wide = sum(buffer.dtype == torch.int32 for buffer in engine.program.buffers.values())  # type: ignore[attr-defined]
    yield f"{name}: {engine.note}; {wide} buffers in int32; exact up to T = {engine.max_timesteps}."
    images = PREPARED(noise(BATCH, 1))
    yield Row.at_most(f"{name}: scores that batch, order or threads change", differing(engine, images[:6]), 0, COMMAND)
    ann = copy.deepcopy(snn.network.analog()).to(memory_format=torch.channels_last)
    dense = images.contiguous(memory_format=torch.channels_last)

    def forward() -> None:
        with torch.inference_mode():
            ann(dense)

    float32 = snn.make_engine("float32", timesteps=T)
    click.echo(f"timing {name}", err=True)
    work_of = {"ann": forward, "int8": step_of(engine, images), "float32": step_of(float32, images)}
    timed = {which: min(timing.seconds) for which, timing in alternate(work_of, repeats).items()}
    bar = (0.35 if name.startswith("ResNet") else 0.5) if vnni else 1.0
    label = f"{name}: int8 step / float32 ANN forward in torch, batch {BATCH}"
    yield Row.at_most(label, timed["int8"] / timed["ann"], bar, COMMAND)
    label = f"{name}: float32 step / float32 ANN forward in torch, batch {BATCH}"
    yield Row(label, timed["float32"] / timed["ann"], None, True, COMMAND)
    yield Row(f"{name}: memory of a slot, MiB", engine.slot_bytes / 2**20, None, True, COMMAND)  # type: ignore[attr-defined]
    if name == TRAINED:
        test = photographs(work, PREPARED.height)["test"].pixels
        images = PREPARED(test[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:limit]])
        with torch.no_grad():
            labels = torch.cat([ann(part).argmax(-1) for part in images.split(BATCH)])
        right = {e.name: scores(e, images, BATCH).argmax(-1) == labels for e in (float32, engine)}
        lost, error = drop_in_points(right["float32"], right["int8"])
        yield Row.at_most(f"{name}: points of agreement with the ANN lost against float32", lost, 0.3, COMMAND)
        shares = ", ".join(f"{which} {100 * float(values.double().mean()):.1f} %" for which, values in right.items())
        yield f"{name}: agreement with the ANN on {len(images)} photographs: {shares}; lost {lost:.2f} ± {error:.2f}."
    else:
        both = [scores(e, images[:8], 8) for e in (float32, engine)]
        error = float((both[1] - both[0]).norm() / both[0].norm())
        yield Row(f"{name}: relative error of the scores against float32, on noise", error, None, True, COMMAND)


@click.command()
@click.option("--work", required=True, type=click.Path(file_okay=False), help="Folder for packages and networks.")
@click.option("--network", multiple=True, type=click.Choice([*RANDOM, TRAINED]), help="All when not given.")
@click.option("--limit", default=400, show_default=True, help="Photographs.")
@click.option("--repeats", default=5, show_default=True, help="Runs of every timing; the fastest counts.")
@click.option("--out", default=str(RESULTS / "int8_imagenet"), show_default=True, help="Stem of the result files.")
def main(work: str, network: tuple[str, ...], limit: int, repeats: int, out: str) -> None:
    """Convert, run, compare, write the table."""
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    machine, cap = this_machine(), os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    vnni = bool(machine.int8) and cap.upper() in ("", "DEFAULT", "ALL")
    notes, rows = [f"{machine}{f'; oneDNN held to {cap}' if cap else ''}. T = {T}."], []
    for name in network or (*RANDOM, TRAINED):
        for item in measured(name, converted(name, folder), folder, limit, repeats, vnni):
            click.echo(item if isinstance(item, str) else f"{item.name}: {item.value:.4g}", err=True)
            (rows if isinstance(item, Row) else notes).append(item)  # type: ignore[arg-type]
    conclude(out, "The int8 engine on networks of ImageNet's size", rows, notes)


if __name__ == "__main__":
    main()
