"""``seenn train-policy``: SEENN-II, a small network that fixes each image's timesteps before the spiking one runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cli.common import Console, command
from cli.errors import usage
from cli.groups import SNN_FILE, DataOptions, OutputOptions, ReportOptions, SnnFile, StepOptions, named
from cli.options import COUNT, PATH, Commas, FiniteRange, option
from cli.output import beside
from cli.training import RunFolder, TrainOptions


@dataclass(frozen=True, kw_only=True)
class PolicyFile(SnnFile):
    """The file, named by an option."""

    snn: str = option("The network.", metavar="FILE", type=PATH, default=SNN_FILE)


@dataclass(frozen=True, kw_only=True)
class TrainPolicyOptions(OutputOptions, ReportOptions):
    """The policy network, and what it is trained for."""

    model: str = option(
        "The policy network: resnet8, a timm name, torchvision:NAME or package.module:factory.",
        metavar="NAME",
        default="resnet8",
    )
    model_kwargs: tuple[str, ...] = option("Passed to its factory.", metavar="KEY=VALUE,…")
    policy_size: int | None = option(
        "Side of the shrunken image that it sees.  [default: the image's, at most 32]", metavar="PIXELS", type=COUNT
    )
    beta: float = option("What a wrong answer costs.", metavar="B", type=FiniteRange(0), default=1.0)
    reward: Literal["exact", "sampled"] = option(
        "Expected over all budgets, or REINFORCE on drawn ones.", default="exact"
    )
    patience: int = option("Epochs without a better reward on the exit split before it stops.", type=COUNT, default=5)
    limit: int | None = option("The first so many training images only.", type=COUNT)
    beta_sweep: tuple[float, ...] | None = option(
        "Train for these too and draw accuracy against timesteps; the policy of --beta is the one stored.",
        metavar="B1,B2,…",
        type=Commas(FiniteRange(0)),
    )


@command("Train SEENN-II: steps chosen from the image.")
def train_policy(
    console: Console,
    file: PolicyFile,
    options: TrainPolicyOptions,
    training: TrainOptions,
    where: RunFolder,
    how: StepOptions,
    data: DataOptions,
) -> None:
    """Train a policy network that chooses each image's timesteps before the network runs, and store it in the SNN.

    It learns on the train split from what the SNN, run once for all T steps, gets right there after each step; the
    epoch kept is the best on the exit split. It costs work of its own, which every later figure counts.
    """
    target = file.output(options.output)
    from converter.load import parse_model_kwargs
    from converter.policy import PolicySpec, spiking_answers
    from converter.policy import train_policy as train
    from seenn.analysis.report.beta_sweep import write_beta_sweep
    from seenn.exits import policy_macs
    from seenn.training import Augment, PolicyConfig

    snn = file.load(with_policy=False).to(console.device)
    with usage():
        kwargs = parse_model_kwargs(options.model_kwargs)
        spec = PolicySpec(model=options.model, kwargs=kwargs, size=options.policy_size)
        shape = spec.input_shape(snn.network.input_shape)
        side = shape[1]
    steps, initial_steps = snn.steps(how.timesteps), snn.network.initial_steps
    spec.build(shape, steps * len(snn.network.segments), console.seed)  # which fails before the network runs
    snn, splits = data.of(snn)
    augment = Augment.suggest(splits, height=side)
    base = replace(PolicyConfig().train, patience=options.patience, augment=augment)
    optimiser = training.config(base, seed=console.seed)
    with usage():
        configs = {
            beta: PolicyConfig(beta=beta, reward=options.reward, train=optimiser)
            for beta in dict.fromkeys((options.beta, *(options.beta_sweep or ())))
        }
    engine = how.make(console, snn)
    keep = None if where.run_dir is None else Path(where.run_dir) / "answers.safetensors"
    with console.progress("running train and exit splits") as update:
        answers = spiking_answers(snn, splits, steps, engine=engine, limit=options.limit, keep=keep, progress=update)
    runs = {}
    for beta, config in configs.items():
        made_with = {
            "policy": config.to_record(),
            "network": snn.network.graph.fingerprint(),
            "timesteps": steps,
            "model": options.model,
            "model_kwargs": list(options.model_kwargs),
            "size": side,
            "images": answers.train.shape[1],
            "data": splits.manifest(),
        }
        with console.progress(f"training, beta {beta:g}") as update:
            runs[beta] = train(
                snn,
                splits,
                config,
                spec=spec,
                timesteps=steps,
                engine=engine,
                answers=answers,
                device=console.device,
                run=where.run(made_with, f"beta-{beta:g}"),
                on_step=update,
            )
    made = runs[options.beta]
    if console.first:
        made.save(target)
    record = made.manifest["exit"]
    result: dict[str, Any] = {**record, "output": str(target)}
    if options.beta_sweep and console.first:
        records = {beta: run.manifest["exit"] for beta, run in runs.items()}
        title = f"{Path(file.snn).name} on {splits.spec} (exit, {record['samples']:,} images)"
        fixed = answers.exit.double().mean(1).tolist()
        with beside(target):
            result["beta_sweep"] = write_beta_sweep(records, fixed, title, Path(options.report), initial_steps)
        console.say(f"sweep: {Path(options.report, 'beta-sweep.png')}")
    trained = record["training"]
    console.answer(
        result,
        f"SEENN-II, beta {options.beta:g}, epoch {trained['best_epoch']} of {trained['epochs_run']}, on "
        f"{record['samples']} images of the exit split (learned from {record['training_samples']} training images):\n"
        f"  every step   {100 * record['full_accuracy']:6.2f} % in {initial_steps + steps} timesteps\n"
        f"  SEENN-II     {100 * record['accuracy']:6.2f} % in {record['mean_timesteps']:.2f} timesteps on average, "
        f"plus {policy_macs(made.policy):,} MACs of the policy network\n"
        f"wrote {target}; next: seenn evaluate{named(target)}",
        engine=engine,
    )
