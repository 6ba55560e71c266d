"""What the command line says on standard error, and the settings that it reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from app.settings import Settings, ignored_settings

#: The exit status of a command that Ctrl-C ended, as shells have it.
INTERRUPTED_STATUS = 130


def fail(message: str) -> NoReturn:
    """Say on standard error what is wrong, and stop."""
    say(message)
    raise typer.Exit(2)


def say(message: str) -> None:
    """Say on standard error what is wrong."""
    line = Text.assemble(("ionpath:", "bold red"), " ", message)  # text, not markup: messages quote what users typed
    Console(stderr=True, highlight=False, soft_wrap=True).print(line)


def say_written(paths: Sequence[Path]) -> None:
    """Name files that were written."""
    for path in paths:
        typer.echo(f"Wrote {path}", err=True)


def read_settings(**changes: object) -> Settings:
    """Read IONPATH_* and lay the given options over them."""
    try:
        settings = Settings()
        return Settings.model_validate({**settings.model_dump(), **changes}) if changes else settings
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        fail(f"IONPATH_{name} = {first['input']!r} cannot be used: {first['msg']}.")
    except ValueError as error:  # the folder of IONPATH_SECRETS_DIR
        fail(str(error))


def read_settings_aloud() -> Settings:
    """Read IONPATH_*, and name on standard error what is set and has no effect."""
    settings = read_settings()
    for problem in ignored_settings():
        warning = Text.assemble(("ionpath:", "bold yellow"), " ", problem)
        Console(stderr=True, highlight=False, soft_wrap=True).print(warning)
    return settings
