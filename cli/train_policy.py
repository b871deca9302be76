"""``seenn train-policy``: SEENN-II, a small network that fixes each image's timesteps before the spiking one runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from cli.common import Session, read_snn, usage, verb
from cli.options import SNN_FILE, TIMESTEPS, FiniteRange, data_options, output_file, output_folder, recorded_splits
from cli.training import train_config, training_options, training_run


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Numbers from 0, separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        return tuple(FiniteRange(0).convert(part.strip(), param, ctx) for part in str(value).split(","))


@click.command(name="train-policy", short_help="Train SEENN-II: steps chosen from the image.")
@click.option(
    "--snn", metavar="FILE", default=SNN_FILE, show_default=True, type=click.Path(dir_okay=False), help="The network."
)
@click.option(
    "--model",
    metavar="NAME",
    default="resnet8",
    show_default=True,
    help="The policy network: resnet8, a timm name, torchvision:NAME or package.module:factory.",
)
@click.option("--model-kwargs", multiple=True, metavar="KEY=VALUE,…", help="Passed to its factory.")
@click.option(
    "--policy-size",
    metavar="PIXELS",
    type=click.IntRange(min=1),
    help="Side of the shrunken image that it sees.  [default: the image's, at most 32]",
)
@click.option(
    "--beta", metavar="B", type=FiniteRange(0), default=1.0, show_default=True, help="What a wrong answer costs."
)
@click.option(
    "--reward",
    type=click.Choice(["exact", "sampled"]),
    default="exact",
    show_default=True,
    help="Expected over all budgets, or REINFORCE on drawn ones.",
)
@click.option(
    "--patience",
    metavar="N",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Epochs without a better reward on the exit split before it stops.",
)
@training_options(epochs=20, lr="0.01")
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), help="The first so many training images only.  [default: all]"
)
@click.option(
    "--beta-sweep",
    metavar="B1,B2,…",
    type=Numbers(),
    help="Train for these too and draw accuracy against timesteps; the policy of --beta is the one stored.",
)
@click.option(
    "--report",
    metavar="DIR",
    default="seenn-report",
    show_default=True,
    help="Folder of the sweep's beta-sweep.png and .json.",
)
@click.option(
    "--timesteps", "-T", type=TIMESTEPS, metavar="T", help="Most steps an image gets.  [default: as converted]"
)
@data_options
@click.option("-o", "--output", metavar="FILE", help="Where to write.  [default: the SNN itself]")
@verb
def train_policy(session: Session, snn: str, output: str | None, report: str, **options: Any) -> None:
    """Train a policy network that chooses each image's timesteps before the network runs, and store it in the SNN.

    It learns on the train split from what the SNN, run once for all T steps, gets right there after each step; the
    epoch kept is the best on the exit split. It costs work of its own, which every later figure counts.
    """
    target = output_file(output or snn)
    betas: tuple[float, ...] = options["beta_sweep"] or ()
    sweep = output_folder(report, "--report") if betas else None
    from converter.load import parse_model_kwargs
    from converter.policy import PolicySpec, spiking_answers, train_policy_checkpoint
    from seenn.analysis.report.beta_sweep import BetaPoint, write_beta_sweep
    from seenn.checkpoint import save
    from seenn.data.recorded import check_splits
    from seenn.training import Augment, PolicyConfig

    checkpoint = read_snn(snn, with_policy=False)
    with usage():
        kwargs = parse_model_kwargs(options["model_kwargs"])
        spec = PolicySpec(model=options["model"], kwargs=kwargs, size=options["policy_size"])
        spec.input_shape(checkpoint.network.input_shape)
    splits = recorded_splits(checkpoint, options)
    check_splits(checkpoint.manifest, splits, use="exit")
    steps = options["timesteps"] or checkpoint.timesteps
    with usage():
        side = spec.input_shape(checkpoint.network.input_shape)[1]
        base = replace(
            PolicyConfig().train,
            patience=options["patience"],
            augment=Augment.suggest(splits.spec, height=side),
        )
        train = train_config(base, options, seed=session.seed)
        configs = {
            beta: PolicyConfig(beta=beta, reward=options["reward"], train=train)
            for beta in dict.fromkeys((options["beta"], *betas))
        }
    checkpoint.network.to(session.device)
    keep = None if options["folder"] is None else Path(options["folder"]) / "answers.safetensors"
    with session.progress("running train and exit splits") as update:
        answers = spiking_answers(checkpoint, splits, steps, limit=options["limit"], keep=keep, progress=update)
    runs = {}
    for beta, config in configs.items():
        made_with = {
            "policy": config.to_record(),
            "network": checkpoint.network.graph.fingerprint(),
            "timesteps": steps,
        }
        made_with |= {"model": options["model"], "model_kwargs": list(options["model_kwargs"]), "size": side}
        run = training_run(options, made_with | {"images": answers.train.shape[1], "data": splits.manifest()})
        with session.progress(f"training, beta {beta:g}") as update:
            runs[beta] = train_policy_checkpoint(
                checkpoint,
                splits,
                answers,
                spec,
                config,
                device=session.device,
                run=None if run is None else replace(run, folder=run.folder / f"beta-{beta:g}"),
                on_step=update,
            )
    chosen = runs[options["beta"]]
    save(target, chosen.checkpoint)
    result: dict[str, Any] = {**chosen.checkpoint.manifest["exit"], "output": str(target)}
    if sweep is not None:
        points = [
            BetaPoint(
                beta=beta, accuracy=r.result.accuracy, mean_timesteps=r.result.mean_timesteps, reward=r.result.reward
            )
            for beta, r in sorted(runs.items())
        ]
        prepass = checkpoint.network.prepass
        fixed = answers.exit.double().mean(1).tolist()
        title = f"{Path(snn).name} on {splits.spec} (exit, {answers.exit.shape[1]:,} images)"
        result["beta_sweep"] = write_beta_sweep(points, fixed, title, sweep, prepass)
        session.say(f"sweep: {sweep / 'beta-sweep.png'}")
    found = chosen.result
    session.answer(
        result,
        f"SEENN-II, beta {options['beta']:g}, epoch {found.training.best.epoch} of {len(found.training.epochs)}, on "
        f"{answers.exit.shape[1]} images of the exit split (learned from {answers.train.shape[1]} training images):\n"
        f"  every step   {100 * found.full_accuracy:6.2f} % in {checkpoint.network.prepass + steps} timesteps\n"
        f"  SEENN-II     {100 * found.accuracy:6.2f} % in {found.mean_timesteps:.2f} timesteps on average, "
        f"plus {chosen.policy.macs:,} MACs of the policy network\n"
        f"wrote {target}; next: seenn evaluate",
    )
