"""``seenn demo``: the whole job on the digits, with the commands that a person would type."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass

from cli.common import Console, command
from cli.groups import EngineChoice
from cli.options import OutputFolder, option
from seenn.files import make_folder

MODEL, EPOCHS = ("--model", "resnet18"), 5


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Where."""

    folder: str = option("Where the files and the report go.", type=OutputFolder(), default="seenn-demo")


@command("All of it on the digits, in under two minutes.")
def demo(console: Console, options: DemoOptions, how: EngineChoice) -> None:
    """Train, convert, calibrate and evaluate on scikit-learn's digits, in under two minutes on two cores.

    Runs the same commands that you would type, in one folder.
    """
    from cli.calibrate_exit import calibrate_exit
    from cli.convert import convert
    from cli.evaluate import evaluate
    from cli.train_ann import train_ann

    target = make_folder(options.folder)
    ann, snn, report = (str(target / name) for name in ("ann.pth", "snn.safetensors", "report"))
    common = ["--device", str(console.device), "--seed", str(console.seed), *(["--quiet"] if console.quiet else [])]
    engine = ["--engine", how.engine]
    if how.float_sites:
        engine += ["--float-sites", ",".join(how.float_sites)]
    steps = (
        (train_ann, [*MODEL, "--epochs", str(EPOCHS), "-o", ann]),
        (convert, [*MODEL, "--ckpt", ann, "--neuron", "if", "-o", snn, "--report", report]),
        (calibrate_exit, [snn, "--max-accuracy-drop", "0.005"]),
        (evaluate, [snn, "--report", report, *engine]),
    )
    for number, (step, arguments) in enumerate(steps, 1):
        console.say(f"\n[{number}/{len(steps)}] seenn {step.name} {' '.join(arguments)}")
        if step is evaluate and console.json:
            arguments.append("--json")
        # Only the last answer belongs on stdout: with --json it must be the one object there.
        talk = contextlib.nullcontext() if step is evaluate else contextlib.redirect_stdout(sys.stderr)
        with talk:
            step.main([*arguments, *common], prog_name=f"seenn {step.name}", standalone_mode=False)
