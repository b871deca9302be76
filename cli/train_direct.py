"""``seenn train-direct``: a spiking network, trained as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.common import Session, usage, verb
from cli.options import SNN_FILE, TIMESTEPS, FiniteRange, data_options, model_options, model_spec, output_file
from cli.training import augment_options, save_memory, train_config, training_options, training_run, with_augmentation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converter.direct import TrainedCheckpoint
    from seenn.core.ops import Neuron
    from seenn.training import DirectConfig

BINARY, DSPIKE = ("lif", "if"), "dspike"  # neurons that fire at most once a step, and their surrogate by default


@click.command(name="train-direct", short_help="Train a spiking network from scratch.")
@click.option(
    "--model",
    metavar="NAME",
    default="spiking_small",
    show_default=True,
    help="spiking_small, spiking_resnet19, spiking_vgg16, spiking_vgg_events; or any model of train-ann, its "
    "activations replaced by neurons.",
)
@click.option(
    "--width",
    metavar="X",
    type=FiniteRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Factor of the channels of a spiking_ model.",
)
@model_options
@click.option("--timesteps", "-T", type=TIMESTEPS, metavar="T", default=4, show_default=True, help="T to train for.")
@click.option(
    "--neuron",
    type=click.Choice(["lif", "if", "burst", "signed"]),
    default="lif",
    show_default=True,
    help="Leaky with hard reset; integrate-and-fire with soft reset; the same with several spikes a step; or able to "
    "take spikes back.",
)
@click.option(
    "--levels", metavar="N", type=click.IntRange(1, 127), help="Of burst and signed: most spikes a step.  [default: 4]"
)
@click.option(
    "--decay",
    metavar="X",
    type=float,
    help="Of lif: share of the membrane that a step keeps, in [0, 1).  [default: 0.5]",
)
@click.option("--soft-reset", is_flag=True, help="Of lif: a spike subtracts the threshold instead of resetting to 0.")
@click.option("--detach-reset", is_flag=True, help="Of lif: no gradients through the reset.")
@click.option(
    "--surrogate",
    type=click.Choice(["dspike", "triangle", "arctan", "sigmoid", "rectangle"]),
    help="Of lif and if: what stands for the derivative of a spike; burst and signed have a triangle at every level.  "
    "[default: dspike]",
)
@click.option(
    "--loss",
    type=click.Choice(["tet", "cumulative", "mean"]),
    default="tet",
    show_default=True,
    help="Every step by itself; the sum after every step; or the mean after T.",
)
@click.option(
    "--label-smoothing",
    metavar="X",
    type=FiniteRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Of the loss.",
)
@click.option(
    "--encoding",
    type=click.Choice(["constant", "poisson"]),
    default="constant",
    show_default=True,
    help="The image in every step, or random spikes at its brightness. Events come as they are.",
)
@click.option("--mixed-timesteps", is_flag=True, help="Every batch runs a random number of steps, 1 to T.")
@save_memory
@training_options(epochs=20, lr="0.1")
@augment_options
@data_options
@click.option("-o", "--output", metavar="FILE", default=SNN_FILE, show_default=True, help="The spiking network.")
@verb
def train_direct(session: Session, model: str, output: str, **options: Any) -> None:
    """Train a spiking network by backpropagation through time, with surrogate gradients.

    The epoch that is kept is the best on the calibration split. Normalisation is folded into the weights, and
    the network is written ready for calibrate-exit.
    """
    target = output_file(output)
    from converter.direct import direct_checkpoint, prepare_splits, spiking_network
    from seenn.checkpoint import save
    from seenn.data import load_data
    from seenn.training import Augment, TrainConfig
    from seenn.training import train_direct as train

    with usage():
        make_neuron, direct = _neuron(options), _direct(options, session.seed)
    splits = load_data(
        options["data"] or "digits",
        data_dir=options["data_dir"],
        download=options["download"],
        split_seed=options["split_seed"] or 0,
        frames=direct.timesteps,
    )
    splits = prepare_splits(splits, direct)
    p = splits.preprocessing
    with usage():
        spec = model_spec(model, options, num_classes=options["num_classes"] or splits.num_classes)
        augment = Augment.suggest(splits.spec, height=p.height)
        config = train_config(TrainConfig(augment=augment, label_smoothing=0.0), options, seed=session.seed)
        config = with_augmentation(config, options, splits)
        network, source = spiking_network(spec, make_neuron, (p.channels, p.height, p.width), width=options["width"])
    neuron, surrogate = make_neuron(), options["surrogate"] or (DSPIKE if options["neuron"] in BINARY else None)
    source = {**source, "neuron": neuron.kind, **neuron.config(), "surrogate": surrogate}
    record = {"source": source, "direct": direct.to_record(), "training": config.to_record(), "data": splits.manifest()}
    run = training_run(options, record)
    with session.progress("training") as update:
        result = train(network, splits, config, direct, device=session.device, run=run, on_step=update)
    made = direct_checkpoint(
        network, splits, result, source=source, config=config, direct=direct, device=session.device, seed=session.seed
    )
    if session.first:
        save(target, made.checkpoint)
    session.answer(
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
        f"{_per_timestep(made)}\nwrote {target}; next: seenn calibrate-exit {target} --max-accuracy-drop 0.005",
    )


def _neuron(options: Mapping[str, Any]) -> Callable[[], Neuron]:
    from converter.config import NeuronSpec
    from seenn.core.ops import IFNeuron, LIFNeuron
    from seenn.surrogate import SURROGATES

    kind, levels = options["neuron"], options["levels"]
    if kind not in BINARY and options["surrogate"] is not None:
        raise ValueError("--surrogate goes with --neuron lif and if: neurons of several spikes have their own")
    if kind in BINARY and levels is not None:
        raise ValueError("--levels goes with --neuron burst and signed: lif and if fire at most once a step")
    if kind != "lif" and (options["decay"] is not None or options["soft_reset"] or options["detach_reset"]):
        raise ValueError("--decay, --soft-reset and --detach-reset go with --neuron lif")
    if kind not in BINARY:
        spec = NeuronSpec.of(kind, levels)
        return lambda: IFNeuron(1.0, 0.5, signed=spec.signed, max_spikes=spec.max_spikes)
    surrogate = SURROGATES[options["surrogate"] or DSPIKE]()
    if kind == "if":
        return lambda: IFNeuron(1.0, 0.0, surrogate=surrogate)
    rules = {
        "decay": 0.5 if options["decay"] is None else options["decay"],
        "v_reset": None if options["soft_reset"] else 0.0,
        "detach_reset": options["detach_reset"],
    }
    LIFNeuron(**rules)  # refuses wrong values before any work
    return lambda: LIFNeuron(surrogate=surrogate, **rules)


def _direct(options: Mapping[str, Any], seed: int) -> DirectConfig:
    from seenn.data.encoding import PoissonEncoding
    from seenn.training import LOSSES, DirectConfig

    timesteps = options["timesteps"]
    encoding = PoissonEncoding(timesteps=timesteps, seed=seed) if options["encoding"] == "poisson" else None
    return DirectConfig(
        timesteps=timesteps,
        loss=LOSSES[options["loss"]](label_smoothing=options["label_smoothing"]),
        encoding=encoding,
        mixed_timesteps=options["mixed_timesteps"],
        save_memory=options["save_memory"],
    )


def _per_timestep(made: TrainedCheckpoint) -> str:
    rows = [f"  t = {t:<4} {100 * accuracy:6.2f} %" for t, accuracy in enumerate(made.accuracy_per_timestep, 1)]
    return "\n".join([f"accuracy on {made.samples} held-out images:", *rows])
