"""The front door: ``seenn COMMAND …``. Importing this never imports torch, so that ``--help`` is instant."""

from __future__ import annotations

import importlib
import sys

import click

from cli.errors import Failure, show_error

#: One module each, in the order in which they are used.
COMMANDS = (
    "demo",
    "train_ann",
    "convert",
    "finetune",
    "train_direct",
    "add_heads",
    "calibrate_exit",
    "train_policy",
    "evaluate",
    "compare_exits",
    "predict",
    "bench",
    "report",
    "inspect",
    "export",
    "doctor",
    "completion",
)


class _InOrder(click.Group):
    """Lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_InOrder,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="seenn")
@click.pass_context
def seenn(ctx: click.Context) -> None:
    """Pretrained networks to spiking networks that exit early.

    \b
    seenn train-ann --model resnet18               writes ann.pth
    seenn convert --model resnet18 --ckpt ann.pth  writes snn.safetensors
    seenn finetune                                 optional: fewer steps
    seenn calibrate-exit --threshold 0.95          stores the exit policy in it
    seenn evaluate                                 figures, plots and a report

    Each command reads what the one before wrote; `seenn demo` runs all of them on the digits.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for name in COMMANDS:
    seenn.add_command(getattr(importlib.import_module(f"cli.{name}"), name))


def main() -> None:
    """Runs the command line; exit code 0 on success, 1 on failure, 2 on wrong usage, 130 on Ctrl-C."""
    as_json = "--json" in sys.argv
    try:
        seenn.main(prog_name="seenn", standalone_mode=False)
    except Failure as error:
        show_error(error.kind, error.message, as_json=as_json)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        show_error("UsageError", error.format_message() + hint, as_json=as_json)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        said = str(error) or str(error.__cause__ or "") or "interrupted; no file was left half-written"
        show_error("Interrupted", said, as_json=as_json)
        sys.exit(130)
