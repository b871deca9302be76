"""``seenn completion``: Tab completes commands and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import click

from cli.common import Console, command
from cli.options import argument


@dataclass(frozen=True, kw_only=True)
class Shell:
    """Whose completion."""

    shell: Literal["bash", "zsh", "fish"] = argument(type=click.Choice(["bash", "zsh", "fish"]))


@command("Shell completion for bash, zsh or fish.")
def completion(console: Console, options: Shell) -> None:
    """Print what makes SHELL complete commands and options.

    \b
    bash:  seenn completion bash >> ~/.bashrc
    zsh:   seenn completion zsh >> ~/.zshrc
    fish:  seenn completion fish > ~/.config/fish/completions/seenn.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(options.shell)
    assert made is not None
    root = click.get_current_context().find_root().command
    script = made(root, {}, "seenn", "_SEENN_COMPLETE").source()
    console.answer({"shell": options.shell, "script": script}, script)
