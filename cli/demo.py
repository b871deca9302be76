"""``seenn demo``: the whole way on the digits, with figures at the end."""

from __future__ import annotations

import contextlib
import sys

import click

from cli.common import Session, verb
from cli.options import engine_options, output_folder

EPOCHS = 5


@click.command(short_help="All of it on the digits, in under two minutes.")
@click.option(
    "--folder", metavar="DIR", default="seenn-demo", show_default=True, help="Where the files and the report go."
)
@engine_options
@verb
def demo(session: Session, folder: str, engine: str, float_sites: str) -> None:
    """Train, convert, calibrate and evaluate on scikit-learn's digits, in under two minutes on two cores.

    Runs the same commands that you would type, in one folder.
    """
    from cli.calibrate_exit import calibrate_exit
    from cli.convert import convert
    from cli.evaluate import evaluate
    from cli.train_ann import train_ann

    target = output_folder(folder, "--folder")
    target.mkdir(parents=True, exist_ok=True)
    ann, snn, report = (str(target / name) for name in ("ann.pth", "snn.safetensors", "report"))
    common = ["--device", str(session.device), "--seed", str(session.seed)]
    sites = ["--float-sites", float_sites] if float_sites else []
    steps = (
        (train_ann, ["--model", "resnet18", "--epochs", str(EPOCHS), "-o", ann]),
        (convert, ["--model", "resnet18", "--ckpt", ann, "-o", snn]),
        (calibrate_exit, [snn, "--max-accuracy-drop", "0.005"]),
        (evaluate, [snn, "--report", report, "--engine", engine, *sites]),
    )
    for number, (command, arguments) in enumerate(steps, 1):
        session.say(f"\n[{number}/{len(steps)}] seenn {command.name} {' '.join(arguments)}")
        if command is evaluate and session.json:
            arguments.append("--json")
        # Only the last answer belongs on stdout: with --json it must be the one object there.
        talk = contextlib.nullcontext() if command is evaluate else contextlib.redirect_stdout(sys.stderr)
        with talk:
            command.main([*arguments, *common], prog_name=f"seenn {command.name}", standalone_mode=False)
