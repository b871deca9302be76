"""``seenn train-direct``: a spiking network, trained as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cli.common import Console, command
from cli.errors import usage
from cli.groups import NEURON, SNN_FILE, DataOptions, ModelOptions
from cli.options import FRACTION, POSITIVE, TIMESTEPS, Integer, given, option
from cli.output import output_file
from cli.training import AugmentOptions, RunFolder, TrainOptions, save_memory_option

if TYPE_CHECKING:
    from seenn.training import DirectConfig


@dataclass(frozen=True, kw_only=True)
class TrainDirectOptions:
    """The network, its loss and its input."""

    model: str = option(
        "spiking_small, spiking_resnet19, spiking_vgg16, spiking_vgg_events; or any model of train-ann, its "
        "activations replaced by neurons.",
        metavar="NAME",
        default="spiking_small",
    )
    width: float = option("Factor of the channels of a spiking_ model.", type=POSITIVE, default=1.0)
    timesteps: int = option("T to train for.", short="-T", type=TIMESTEPS, default=4)
    loss: Literal["tet", "cumulative", "mean"] = option(
        "Every step by itself; the sum after every step; or the mean after T.", default="tet"
    )
    label_smoothing: float = option("Of the loss.", type=FRACTION, default=0.0)
    encoding: Literal["constant", "poisson"] = option(
        "The image in every step, or random spikes at its brightness. Events come as they are.", default="constant"
    )
    mixed_timesteps: bool = option("Every batch runs a random number of steps, 1 to T.")
    save_memory: bool = save_memory_option()
    output: str = option("The spiking network.", short="-o", metavar="FILE", default=SNN_FILE)

    def __post_init__(self) -> None:
        if self.width != 1.0 and not self.model.startswith("spiking_"):
            raise ValueError(f"--width is for the spiking_ models; give {self.model} its own with --model-kwargs")

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
        "lif: leaky with hard reset; if: integrate-and-fire with soft reset; burst: the same with several spikes "
        "a step; signed: able to take spikes back; floored: burst with membranes cut off at −θ, as in sinabs.",
        type=NEURON,
        default="lif",
    )
    levels: int | None = option(
        "Of burst, signed and floored: most spikes a step.  [default: 4; floored: 127]", type=Integer(1, 127)
    )
    decay: float | None = option(
        "Of lif: share of the membrane that a step keeps, in [0, 1).  [default: 0.5]", type=float
    )
    soft_reset: bool = option("Of lif: a spike subtracts the threshold instead of resetting to 0.")
    detach_reset: bool = option("Of lif: no gradients through the reset.")
    surrogate: Literal["dspike", "triangle", "arctan", "sigmoid", "rectangle"] | None = option(
        "Of lif and if: what stands for the derivative of a spike; burst and signed have a triangle at every "
        "level.  [default: dspike]"
    )

    def rules(self) -> dict[str, Any]:
        """What the options say beside the kind and its levels. Values that the kind refuses are wrong usage."""
        from seenn.neurons import NEURONS

        rules = given(self, "decay", "surrogate", *(("detach_reset",) if self.detach_reset else ()))
        rules |= {"v_reset": None} if self.soft_reset else {}
        with usage():
            NEURONS.get(self.neuron).train(self.levels, **rules)
        return rules


@command("Train a spiking network from scratch.")
def train_direct(
    console: Console,
    options: TrainDirectOptions,
    neurons: NeuronOptions,
    model: ModelOptions,
    training: TrainOptions,
    where: RunFolder,
    augment: AugmentOptions,
    data: DataOptions,
) -> None:
    """Train a spiking network by backpropagation through time, with surrogate gradients.

    The epoch that is kept is the best on the calibration split. Normalisation is folded into the weights, and
    the network is written ready for calibrate-exit.
    """
    target = output_file(options.output)
    from converter.direct import prepare_splits
    from converter.direct import train_direct as train
    from seenn.models import MODELS
    from seenn.training import Augment, TrainConfig

    spec = model.spec(options.model, also=MODELS)
    rules, direct = neurons.rules(), options.config(console.seed)
    splits = prepare_splits(data.splits({"data": {"frames": direct.timesteps}}, None, in_chans=model.in_chans), direct)
    base = TrainConfig(epochs=20, augment=Augment.suggest(splits), label_smoothing=0.0)
    config = training.config(base, seed=console.seed)
    with console.progress("training") as update:
        snn = train(
            spec.for_classes(splits.num_classes),
            splits,
            augment.add(config, splits),
            direct,
            neuron=neurons.neuron,
            levels=neurons.levels,
            rules=rules,
            width=options.width,
            device=console.device,
            seed=console.seed,
            open_run=where.run,
            on_step=update,
        )
    if console.first:
        snn.save(target)
    trained, check = snn.manifest["direct"], snn.manifest["check"]
    rows = [f"  t = {t:<4} {100 * part:6.2f} %" for t, part in enumerate(check["accuracy_per_timestep"], 1)]
    console.answer(
        {
            **{name: trained[name] for name in ("validation_accuracy", "epoch", "epochs")},
            "validation_split": "calibration",
            **{name: check[name] for name in ("accuracy_per_timestep", "float64_difference")},
            "check_split": check["split"],
            "check_samples": check["samples"],
            "sites": len(snn.network.sites),
            **{name: snn.manifest[name] for name in ("timesteps", "source", "data")},
            "output": str(target),
        },
        f"validation accuracy {100 * trained['validation_accuracy']:.2f} % "
        f"(epoch {trained['epoch']} of {trained['epochs']})",
        f"accuracy on {check['samples']} held-out images:",
        *rows,
        f"wrote {target}; next: seenn calibrate-exit {target} --max-accuracy-drop 0.005",
    )
