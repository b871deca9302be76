"""The front door: ``seenn VERB …``. Importing this never imports torch, so that ``--help`` is instant."""

from __future__ import annotations

import sys

import click

from cli.calibrate_exit import calibrate_exit
from cli.convert import convert
from cli.demo import demo
from cli.evaluate import evaluate
from cli.inspect import inspect
from cli.predict import predict
from cli.train_ann import train_ann
from cli.train_direct import train_direct


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="seenn")
def seenn() -> None:
    """Pretrained networks to spiking networks that exit early.

    \b
    seenn train-ann --model resnet18                     writes ann.pth
    seenn convert --model resnet18 --ckpt ann.pth        writes snn.safetensors
    seenn calibrate-exit --threshold 0.95                stores the exit policy in it
    seenn evaluate                                       figures on the test split, and a report

    Each verb reads what the one before wrote; `seenn demo` does all of it on the digits.
    """


for command in (train_ann, convert, calibrate_exit, evaluate, predict, inspect, train_direct, demo):
    seenn.add_command(command)


def main() -> None:
    """Runs the command line; exit code 0 on success, 1 on failure, 2 on wrong usage, 130 on Ctrl-C."""
    try:
        seenn.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: nothing was written", err=True)
        sys.exit(130)
