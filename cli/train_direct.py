"""``seenn train-direct``: a spiking network, trained as one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import click

from cli.common import Console, command
from cli.errors import usage
from cli.groups import NEURON, SNN_FILE, TIMESTEPS, DataOptions, ModelOptions, output_file
from cli.options import FiniteRange, option
from cli.training import AugmentOptions, RunOptions, TrainOptions, epochs_option, lr_option, save_memory_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from seenn.core.ops import Neuron
    from seenn.training import DirectConfig

DSPIKE = "dspike"  # the surrogate by default, of neurons that have a choice


@dataclass(frozen=True, kw_only=True)
class TrainDirectOptions:
    """The network, its loss and its input."""

    model: str = option(
        "--model",
        metavar="NAME",
        default="spiking_small",
        help="spiking_small, spiking_resnet19, spiking_vgg16, spiking_vgg_events; or any model of train-ann, its "
        "activations replaced by neurons.",
    )
    width: float = option(
        "--width",
        metavar="X",
        type=FiniteRange(0, min_open=True),
        default=1.0,
        help="Factor of the channels of a spiking_ model.",
    )
    timesteps: int = option("--timesteps", "-T", type=TIMESTEPS, metavar="T", default=4, help="T to train for.")
    loss: Literal["tet", "cumulative", "mean"] = option(
        "--loss", default="tet", help="Every step by itself; the sum after every step; or the mean after T."
    )
    label_smoothing: float = option(
        "--label-smoothing", metavar="X", type=FiniteRange(0, 1, max_open=True), default=0.0, help="Of the loss."
    )
    encoding: Literal["constant", "poisson"] = option(
        "--encoding",
        default="constant",
        help="The image in every step, or random spikes at its brightness. Events come as they are.",
    )
    mixed_timesteps: bool = option("--mixed-timesteps", help="Every batch runs a random number of steps, 1 to T.")
    save_memory: bool = save_memory_option()
    output: str = option("-o", "--output", metavar="FILE", default=SNN_FILE, help="The spiking network.")

    def config(self, seed: int) -> DirectConfig:
        """How it is trained. Wrong values are wrong usage."""
        from seenn.data.encoding import PoissonEncoding
        from seenn.training import LOSSES, DirectConfig

        with usage():
            return DirectConfig(
                timesteps=self.timesteps,
                loss=LOSSES[self.loss](label_smoothing=self.label_smoothing),
                encoding=PoissonEncoding(timesteps=self.timesteps, seed=seed) if self.encoding == "poisson" else None,
                mixed_timesteps=self.mixed_timesteps,
                save_memory=self.save_memory,
            )


@dataclass(frozen=True, kw_only=True)
class NeuronOptions:
    """The neurons."""

    neuron: str = option(
        "--neuron",
        type=NEURON,
        default="lif",
        help="lif: leaky with hard reset; if: integrate-and-fire with soft reset; burst: the same with several spikes "
        "a step; signed: able to take spikes back.",
    )
    levels: int | None = option(
        "--levels",
        metavar="N",
        type=click.IntRange(1, 127),
        help="Of burst and signed: most spikes a step.  [default: 4]",
    )
    decay: float | None = option(
        "--decay",
        metavar="X",
        type=float,
        help="Of lif: share of the membrane that a step keeps, in [0, 1).  [default: 0.5]",
    )
    soft_reset: bool = option("--soft-reset", help="Of lif: a spike subtracts the threshold instead of resetting to 0.")
    detach_reset: bool = option("--detach-reset", help="Of lif: no gradients through the reset.")
    surrogate: Literal["dspike", "triangle", "arctan", "sigmoid", "rectangle"] | None = option(
        "--surrogate",
        help="Of lif and if: what stands for the derivative of a spike; burst and signed have a triangle at every "
        "level.  [default: dspike]",
    )

    def factory(self) -> Callable[[], Neuron]:
        """Makes one neuron a call. Wrong values are wrong usage."""
        from seenn.neurons import NEURONS

        kind = NEURONS.get(self.neuron)
        rules = {"decay": self.decay, "surrogate": self.surrogate, "detach_reset": self.detach_reset or None}
        given = {name: value for name, value in rules.items() if value is not None}
        make = partial(kind.train, self.levels, **given, **({"v_reset": None} if self.soft_reset else {}))
        with usage():
            make()  # refuses wrong values before any work
        return make

    @property
    def shape(self) -> str | None:
        """Of the surrogate; None where the neuron has its own."""
        from seenn.neurons import NEURONS

        return self.surrogate or (DSPIKE if "surrogate" in NEURONS.get(self.neuron).rules else None)


@dataclass(frozen=True, kw_only=True)
class DirectTraining(TrainOptions):
    """Training with the defaults of spiking networks."""

    epochs: float = epochs_option(20)
    lr: float | None = lr_option("0.1")


@command("Train a spiking network from scratch.")
def train_direct(
    console: Console,
    options: TrainDirectOptions,
    neurons: NeuronOptions,
    model: ModelOptions,
    training: DirectTraining,
    where: RunOptions,
    augment: AugmentOptions,
    data: DataOptions,
) -> None:
    """Train a spiking network by backpropagation through time, with surrogate gradients.

    The epoch that is kept is the best on the calibration split. Normalisation is folded into the weights, and
    the network is written ready for calibrate-exit.
    """
    target = output_file(options.output)
    from converter.direct import direct_checkpoint, prepare_splits, spiking_network
    from seenn.checkpoint import save
    from seenn.training import Augment, TrainConfig
    from seenn.training import train_direct as train

    make_neuron, direct = neurons.factory(), options.config(console.seed)
    splits = prepare_splits(data.splits({"data": {"frames": direct.timesteps}}, None), direct)
    p = splits.preprocessing
    spec = model.spec(options.model, num_classes=splits.num_classes)
    base = TrainConfig(augment=Augment.suggest(splits.spec, height=p.height), label_smoothing=0.0)
    config = augment.add(training.config(base, seed=console.seed), splits)
    with usage():
        network, source = spiking_network(spec, make_neuron, (p.channels, p.height, p.width), width=options.width)
    neuron = make_neuron()
    source = {**source, "neuron": neuron.kind, **neuron.config(), "surrogate": neurons.shape}
    record = {"source": source, "direct": direct.to_record(), "training": config.to_record(), "data": splits.manifest()}
    run = where.run(record)
    with console.progress("training") as update:
        result = train(network, splits, config, direct, device=console.device, run=run, on_step=update)
    made = direct_checkpoint(
        network, splits, result, source=source, config=config, direct=direct, device=console.device, seed=console.seed
    )
    if console.first:
        save(target, made.checkpoint)
    per_step = "\n".join(f"  t = {t:<4} {100 * part:6.2f} %" for t, part in enumerate(made.accuracy_per_timestep, 1))
    console.answer(
        {
            "validation_accuracy": result.best.accuracy,
            "validation_split": "calibration",
            "epoch": result.best.epoch,
            "epochs": len(result.epochs),
            "timesteps": direct.timesteps,
            **made.to_json(),
            "output": str(target),
        },
        f"validation accuracy {100 * result.best.accuracy:.2f} % (epoch {result.best.epoch} of {len(result.epochs)})\n"
        f"accuracy on {made.samples} held-out images:\n"
        f"{per_step}\nwrote {target}; next: seenn calibrate-exit {target} --max-accuracy-drop 0.005",
    )
