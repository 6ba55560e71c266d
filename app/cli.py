"""The command line: `ionpath serve`, `predict`, `screen`, `report` and more, and what other packages add."""

import os
import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from sqlalchemy.exc import SQLAlchemyError

from app.console import options
from app.console.messages import fail, read_settings, read_settings_aloud
from app.console.screening import report, screen
from app.crystals.hops.options import HopOptions
from app.errors import IonpathError
from app.models.cards.card import CheckpointError
from app.settings import Settings

if TYPE_CHECKING:
    from app.console.asking import Caller

COMMANDS_GROUP = "ionpath.commands"
_OWN_COMMANDS = frozenset({"serve", "predict", "screen", "report", "models", "migrate", "keys"})

cli = typer.Typer(
    name="ionpath",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Predicts how high a barrier an ion must climb to hop through a crystal.\n\n"
    "Start with `ionpath predict LiFePO4.cif --ion Li`, or with `ionpath serve` and a browser.",
)
keys = typer.Typer(no_args_is_help=True, help="API keys: only their hashes are stored.")
cli.add_typer(keys, name="keys")
cli.command("screen")(screen)
cli.command("report")(report)


Url = Annotated[
    str | None, typer.Option("--url", help="A running service, such as http://127.0.0.1:8000; local if left out.")
]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="IONPATH_API_KEY", help="The key of that service, if it needs one.")
]


def main() -> None:
    """Run the command line, with the commands of other installed packages."""
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    if asked not in _OWN_COMMANDS:  # training need not be imported to serve
        for entry in sorted(entry_points(group=COMMANDS_GROUP), key=lambda entry: entry.name):
            loaded = entry.load()
            if isinstance(loaded, typer.Typer):
                cli.add_typer(loaded, name=entry.name)
            else:  # a plain function: a group of its own would take the argument after `train` for a subcommand
                cli.command(entry.name)(loaded)
    cli()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ionpath {version('ionpath')}")
        raise typer.Exit


@cli.callback()
def _options(
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command; its help is the app's."""


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind (IONPATH_HOST; 127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one (IONPATH_PORT; 8000).")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="`json` or `text`; text where standard error is a terminal.")
    ] = None,
) -> None:
    """Serve predictions over HTTP; the page at / and the OpenAPI page at /docs are part of it.

    Everything else is set by IONPATH_* variables. Without API keys only requests from this machine are accepted. If it
    cannot start, the exit status is 2 and standard error says why.
    """
    given = {"host": host, "port": port, "log_format": log_format or _terminal_format()}
    settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    from app.console.exposure import CannotServeError, check_exposure  # noqa: PLC0415 - what only this command needs

    try:
        check_exposure(settings)
    except CannotServeError as error:
        fail(str(error))
    from app.console.server import run  # noqa: PLC0415 - torch takes seconds to import

    try:
        run(settings)
    except CannotServeError as error:
        fail(str(error))


def _terminal_format() -> str | None:
    return "text" if sys.stderr.isatty() and "IONPATH_LOG_FORMAT" not in os.environ else None


@cli.command()
def predict(  # noqa: PLR0917 - typer passes each by name
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...",
            help="Bands (JSON, XYZ, ASE's files, zip or folder of an NEB run), or crystals (CIF, POSCAR, vasprun.xml) "
            "with --ion.",
        ),
    ] = None,
    ion: Annotated[
        str | None, typer.Option(help="The ion that hops in a crystal, such as Li; a band of another ion is refused.")
    ] = None,
    initial: Annotated[Path | None, typer.Option(help="The first of two end points.")] = None,
    final: Annotated[Path | None, typer.Option(help="The last of two end points.")] = None,
    cell: Annotated[
        str | None,
        typer.Option(
            help="The cell of files that have none (XYZ of CP2K, .crd of neb.x), angstrom: `10.3,12,9.4`, with three "
            "angles, or nine numbers."
        ),
    ] = None,
    model: options.Model = None,
    threshold_ev: options.ThresholdEv = 0.65,
    mechanism: options.Mechanism = "auto",
    max_hops: options.MaxHops = None,
    max_hop_angstrom: options.MaxHopAngstrom = 5.0,
    interstitials: options.Interstitials = False,
    include_close_hops: options.IncludeCloseHops = False,
    second_opinion: Annotated[
        Literal["bvse"] | None,
        typer.Option(
            help="Percolation by another method as well: `bvse`, bond-valence site energies. A warning says where the "
            "two are more than 0.5 eV apart.",
            rich_help_panel=options.OF_CRYSTALS,
        ),
    ] = None,
    properties: Annotated[
        bool, typer.Option("--properties", help="Predict the bulk properties of crystals, not barriers.")
    ] = False,
    conductivity: Annotated[
        bool,
        typer.Option(
            "--conductivity", help="Predict how well crystals conduct lithium at room temperature, not each barrier."
        ),
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One row a band, hop or property.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw barriers and intervals (PNG, SVG or PDF).")
    ] = None,
    write_neb: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write every hop as a folder of POSCARs to start a DFT-NEB from.")
    ] = None,
) -> None:
    """Predict barriers from files, here or by a running service.

    Examples: `ionpath predict band.json`; `ionpath predict LiFePO4.cif --ion Li`;
    `ionpath predict --initial a.cif --final b.cif`; `ionpath predict *.xyz --csv > barriers.csv`;
    `ionpath predict LiFePO4.cif --ion Li --plot hops.png --write-neb bands`;
    `ionpath predict FePO4.cif --ion Na --max-hop-angstrom 6 --second-opinion bvse`;
    `ionpath predict LiFePO4.cif --properties`; `ionpath predict *.cif --conductivity`;
    `ionpath predict cp2k-pos.xyz --cell 10.3,12,9.4`.

    Any number of files may be named: each is read when its turn comes, and its result printed as soon as it and those
    before it are done, in the order of the files. Nothing is refused for load. How far it is, standard error shows.

    The exit status is 1 where a file could not be read or predicted; the others are answered all the same.
    """
    from app.console import asking, predicting  # noqa: PLC0415 - what only this command needs

    predicting.predict(
        predicting.Inputs(files=files or [], ion=ion, initial=initial, final=final, cell=cell),
        asking.Question(
            model=model,
            threshold_ev=threshold_ev,
            hops=HopOptions(
                mechanism=mechanism,
                max_hops=max_hops,
                max_hop_angstrom=max_hop_angstrom,
                interstitials=interstitials,
                include_close_hops=include_close_hops,
            ),
            second_opinion=second_opinion,
            with_bands=write_neb is not None,
            properties=properties,
            conductivity=conductivity,
        ),
        predicting.Outputs(as_json=as_json, as_csv=as_csv, plot=plot, neb_folder=write_neb),
        lambda: _remote(url, api_key) if url else _local(),
    )


@cli.command()
def models(
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="The cards, whole.")] = False,
) -> None:
    """List the checkpoints that can answer, with their accuracy on bands they were not fitted on."""
    from app.console import outputs  # noqa: PLC0415 - what only this command needs

    try:
        listed = _remote_models(url, api_key) if url else _local_models()
    except IonpathError as error:
        fail(error.detail)
    except CheckpointError as error:
        fail(str(error))
    outputs.write_models(listed, sys.stdout, as_json=as_json)


def _check_address(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        fail(f"--url {url}: an address begins with http:// or https://, such as http://{url}.")


def _remote(url: str, api_key: str | None) -> "Caller":
    _check_address(url)
    from app.console.remote import Remote  # noqa: PLC0415 - as above

    return Remote(url, api_key)


def _remote_models(url: str, api_key: str | None) -> dict[str, Any]:
    _check_address(url)
    from app.console.remote import models  # noqa: PLC0415 - as above

    return models(url, api_key)


def _local() -> "Caller":
    from app.console.local import Local  # noqa: PLC0415 - torch takes seconds to import

    return Local(_quiet_settings())


def _local_models() -> dict[str, Any]:
    from app.console.local import models  # noqa: PLC0415 - torch takes seconds to import

    return models(read_settings_aloud())


def _quiet_settings() -> Settings:
    """What is written to standard output is the answer alone."""
    from app.main import configure_logging  # noqa: PLC0415 - torch takes seconds to import

    settings = read_settings_aloud()
    configure_logging(settings.model_copy(update={"log_level": "warning", "log_format": "text"}))
    return settings


@cli.command()
def migrate() -> None:
    """Bring the prediction log's schema up to date, as `ionpath serve` does on start.

    The database is IONPATH_DATABASE_URL. Safe to run twice, and by two at once.
    """
    from app.storage.migrate import migrate as bring_up_to_date  # noqa: PLC0415 - SQLAlchemy is not needed to help

    settings = read_settings_aloud()
    try:
        state = bring_up_to_date(settings.database_url)
    except (ValueError, SQLAlchemyError) as error:
        fail(f"The prediction log cannot be brought up to date: {error}")
    if state.current == state.head:
        typer.echo(f"The prediction log's schema is up to date (revision {state.head}).")
    else:
        typer.echo(
            f"The prediction log's schema (revision {state.current}) is of a later release than this one, which knows "
            f"revision {state.head}. It was left as it is: this release works with it."
        )


@keys.command("new")
def new_api_key(
    key_id: Annotated[str, typer.Argument(help="Who it is for: letters, digits, - and _.")],
    file: Annotated[Path | None, typer.Option(help="Append its hash to this file (IONPATH_API_KEYS_FILE).")] = None,
) -> None:
    """Make an API key: it is shown once, its hash is what the service keeps."""
    from app.api.keys import new_key  # noqa: PLC0415 - as the others

    try:
        secret, line = new_key(key_id)
    except (IonpathError, ValueError) as error:
        fail(str(error))
    typer.echo(f"The key, shown this once:  {secret}", err=True)
    if file is None:
        typer.echo("Add this line to the file that IONPATH_API_KEYS_FILE names:", err=True)
        typer.echo(line)
        return
    with file.open("a", encoding="utf-8") as lines:
        lines.write(f"{line}\n")
    typer.echo(f"Its hash was added to {file}; a running service reloads it automatically.", err=True)
