"""What a command says on standard error: standard output is the answer alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text


def fail(message: str) -> NoReturn:
    """Say on standard error what is wrong, and stop."""
    say(message)
    raise typer.Exit(2)


def say(message: str) -> None:
    """Print a message."""
    line = Text.assemble(("ionpath:", "bold red"), " ", message)  # text, not markup: messages quote what users typed
    Console(stderr=True, highlight=False, soft_wrap=True).print(line)


def say_written(paths: Sequence[Path]) -> None:
    """Name files that were written."""
    for path in paths:
        typer.echo(f"Wrote {path}", err=True)
