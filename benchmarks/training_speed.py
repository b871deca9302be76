"""How fast a spiking network trains, side by side with SpikingJelly, on the same network, batch and precision.

SpikingJelly goes into a folder of its own::

    pip install --no-deps --target SJ spikingjelly loguru
    python benchmarks/training_speed.py --spikingjelly SJ
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata

# Large temporaries otherwise go back to the kernel after every op: for all contenders alike, before they start.
TUNED = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "1073741824"}
if __name__ == "__main__" and any(os.environ.get(key) != value for key, value in TUNED.items()):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **TUNED})

# ruff: noqa: E402
import click
import torch
import torch.nn.functional as F
from bars import Row, write_results
from common import RESULTS
from torch import Tensor, nn

import seenn
from seenn.batch import Batch
from seenn.core.ops import LIFNeuron
from seenn.models import build_spiking_model
from seenn.surrogate import Sigmoid
from seenn.training import DirectConfig, MeanLoss, OverTime

DECAY, ALPHA = 0.5, 4.0
TITLE = "Training speed of direct training"


def build(model: str, width: float, size: int) -> nn.Module:
    """The network in seenn's terms: LIF, decay ½, hard reset, sigmoid surrogate."""
    torch.manual_seed(0)
    make = partial(LIFNeuron, decay=DECAY, surrogate=Sigmoid(alpha=ALPHA))
    return build_spiking_model(model, make, in_chans=1, num_classes=10, image_size=(size, size), width=width)


def in_spikingjelly(module: nn.Module, *, first_once: bool) -> nn.Module:
    """The same modules and weights in SpikingJelly's terms, in multi-step mode with the torch backend."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def swap(part: nn.Module) -> nn.Module:
        if isinstance(part, LIFNeuron):
            return neuron.LIFNode(
                tau=1 / (1 - DECAY),
                decay_input=False,
                v_reset=0.0,
                surrogate_function=surrogate.Sigmoid(alpha=ALPHA),
                step_mode="m",
            )
        twin = getattr(layer, type(part).__name__, None)
        if twin is None or isinstance(part, nn.Sequential):
            return part
        made: nn.Module
        if isinstance(part, nn.Conv2d):
            made = twin(part.in_channels, part.out_channels, part.kernel_size, part.stride, part.padding, bias=False)
        elif isinstance(part, nn.BatchNorm2d):
            made = twin(part.num_features)
        elif isinstance(part, nn.Linear):
            made = twin(part.in_features, part.out_features)
        elif isinstance(part, nn.AvgPool2d):
            made = twin(part.kernel_size, ceil_mode=part.ceil_mode)
        elif isinstance(part, nn.AdaptiveAvgPool2d):
            made = twin(part.output_size)
        else:
            made = twin()
        made.load_state_dict(part.state_dict())
        return made.to(module[0].weight.dtype)

    for name, part in list(module.named_modules()):
        if name and not list(part.children()):
            module.set_submodule(name, swap(part))
    functional.set_step_mode(module, "m")
    if first_once:
        for index in (0, 1):
            functional.set_step_mode(module[index], "s")  # type: ignore[index]
    return module


def our_step(module: nn.Module, timesteps: int, *, amp: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """One optimisation step; returns the outputs ``[T, B, K]``."""
    network = seenn.capture(module.train(), torch.zeros(2, 1, 28, 28, dtype=module[0].weight.dtype)).train()
    for site in network.sites:
        network.graph[site].op.requires_grad_(False)
    over_time = OverTime(network, DirectConfig(timesteps=timesteps, loss=MeanLoss()))
    over_time.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD([p for p in over_time.parameters() if p.requires_grad], lr=0.01, momentum=0.9)

    def step(images: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            outputs: Tensor = over_time(Batch(images.to(memory_format=torch.channels_last)))
        F.cross_entropy(outputs.float().mean(0), labels).backward()
        optimizer.step()
        return outputs.detach()

    return step


def their_step(
    module: nn.Module, timesteps: int, *, first_once: bool, channels_last: bool, amp: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """The same with SpikingJelly."""
    from spikingjelly.activation_based import functional

    module = in_spikingjelly(module, first_once=first_once).train()
    if channels_last:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)

    def run(images: Tensor) -> Tensor:
        if first_once:
            current = module[1](module[0](images))  # type: ignore[index]
            x = current.unsqueeze(0).repeat(timesteps, 1, 1, 1, 1)
            for part in module[2:]:  # type: ignore[index]
                x = part(x)
            return x
        outputs: Tensor = module(images.unsqueeze(0).repeat(timesteps, 1, 1, 1, 1))
        return outputs

    def step(images: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            outputs = run(images.to(memory_format=torch.channels_last) if channels_last else images)
        F.cross_entropy(outputs.float().mean(0), labels).backward()
        optimizer.step()
        functional.reset_net(module)
        return outputs.detach()

    return step


def contenders_for(
    model: str, width: float, timesteps: int, dtype: torch.dtype = torch.float32, *, amp: bool = False
) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """By name: one optimisation step of the same weights each."""
    found = {"seenn": our_step(build(model, width, 28).to(dtype), timesteps, amp=amp)}
    for first_once in (False, True):
        for channels_last in (False, True):
            how = f"{'first layer once' if first_once else 'image repeated'}, {'NHWC' if channels_last else 'NCHW'}"
            module = build(model, width, 28).to(dtype)
            found[how] = their_step(module, timesteps, first_once=first_once, channels_last=channels_last, amp=amp)
    return found


def prove_same(model: str, width: float, timesteps: int) -> None:
    """Two steps of each in float64, where rounding flips no spike: the same outputs, the second after an update."""
    images = torch.randn(2, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    outputs: dict[str, Tensor] = {}
    for name, step in contenders_for(model, width, timesteps, torch.float64).items():
        outputs[name] = torch.stack([step(images, torch.tensor([0, 1])) for _ in range(2)])
        difference = float((outputs[name] - outputs["seenn"]).norm() / outputs["seenn"].norm())
        if difference > 1e-6:
            raise click.ClickException(f"{name} computes something else: relative difference {difference:.2g}")


@click.command()
@click.option("--spikingjelly", required=True, type=click.Path(exists=True, file_okay=False), help="Its folder.")
@click.option("--model", default="spiking_resnet19", show_default=True)
@click.option("--width", default=0.25, show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--timesteps", default=4, show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Of one step of each contender, in turn.")
@click.option("--amp", is_flag=True, help="bfloat16 autocast, for all.")
@click.option("--out", default=str(RESULTS / "training_speed"), show_default=True, help="Stem of the result files.")
def main(
    spikingjelly: str, model: str, width: float, batch: int, timesteps: int, rounds: int, amp: bool, out: str
) -> None:
    """Train step by step in turn, and compare images a second."""
    sys.path.append(spikingjelly)
    images = torch.randn(batch, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(batch) % 10
    prove_same(model, width, timesteps)
    contenders = contenders_for(model, width, timesteps, amp=amp)
    for step in contenders.values():
        step(images, labels)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, step in contenders.items():
            start = time.perf_counter()
            step(images, labels)
            seconds[name].append(time.perf_counter() - start)
    median = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    best = min((name for name in median if name != "seenn"), key=lambda name: median[name])
    version = next(d.version for d in metadata.distributions(path=[spikingjelly]) if d.name == "spikingjelly")
    command = f"python benchmarks/training_speed.py --spikingjelly SJ --model {model} --width {width} --batch {batch}"
    command += " --amp" * amp
    what = f"{model} of width {width}, T={timesteps}, batch {batch}, {'bfloat16 autocast' if amp else 'float32'}"
    rows = [
        Row.at_least(
            f"images/s of seenn / SpikingJelly {version} at its best", median[best] / median["seenn"], 1.5, command
        ),
        *(Row(f"images/s, {name}", batch / value, None, True, command) for name, value in median.items()),
    ]
    spread = "; ".join(f"{n} {1e3 * min(v):.0f} to {1e3 * max(v):.0f}" for n, v in seconds.items())
    notes = [
        f"{what}, 28×28 images, {torch.get_num_threads()} threads, torch {torch.__version__}: forward, backward and "
        "SGD step of the same weights, with LIF neurons (decay ½, hard reset, sigmoid surrogate) on both sides. "
        f"SpikingJelly runs in multi-step mode with its torch backend; its best setting was: {best}. All have the same "
        "allocator settings, which favour large temporaries.",
        f"Milliseconds a step, minimum to maximum of {rounds} rounds in turn: {spread}.",
    ]
    for path in write_results(out, TITLE, rows, notes=notes):
        click.echo(f"wrote {path}")
    click.echo(f"{what}: {median[best] / median['seenn']:.2f} times SpikingJelly ({spread})")


if __name__ == "__main__":
    main()
