"""`ionpath screen` and `ionpath report`: crystals in bulk, and what came of them."""

import signal
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.console import options
from app.console.messages import INTERRUPTED_STATUS, fail, read_settings_aloud
from app.crystals.elements import plain_symbol
from app.crystals.hops.options import HopOptions
from app.errors import InputError
from app.models.cards.card import CheckpointError, read_card
from app.models.cards.conductivity_card import conductivity_card
from app.serving.limits import limits_of
from app.settings import Settings

if TYPE_CHECKING:
    from app.screening.job import ConductivityChoice, Job
    from app.screening.report.ranking import Row
    from app.screening.run import Summary
    from app.screening.sources.items import SourceLimits

_GIB = 1 << 30
_OF_RUN = "Of the run"
#: So many crystals that were not written are named.
_MOST_NAMED = 20


_Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="A folder of crystals; a tar (also .gz, .xz, .bz2) or zip of them; a Parquet or JSON-lines file of "
        "pymatgen structures; an OPTIMADE page; or a URI such as s3://bucket/folder.",
    ),
]
_OnlyPresent = Annotated[
    bool,
    typer.Option(
        "--only-present",
        help="Leave out the ions that a crystal does not hold; a crystal that holds none of them is a failure. "
        "Else an absent ion hops between interstitial sites, as with `ionpath predict`.",
    ),
]
_Shuffle = Annotated[
    int | None,
    typer.Option(
        metavar="SEED",
        help="A random order, and with --limit a random choice, the same for the same SEED. An archive is read in "
        "its own order: of it only the choice is random.",
    ),
]
_TimeoutS = Annotated[
    float,
    typer.Option(
        min=0.1,
        help="Processor time of a crystal, seconds: one that takes more, or three times as much in all, fails.",
        rich_help_panel=options.OF_CRYSTALS,
    ),
]
_MemoryMib = Annotated[
    int | None,
    typer.Option(
        min=512,
        help="Memory of the process that reads a crystal (IONPATH_PARSE_MEMORY_MIB; 4096).",
        rich_help_panel=options.OF_CRYSTALS,
    ),
]
_MaxEntries = Annotated[
    int, typer.Option(min=1, help="Most files in an archive, or rows in a table.", rich_help_panel=_OF_RUN)
]
_MaxUnpackedGib = Annotated[
    float, typer.Option(min=0, help="Most GiB that an archive unpacks to.", rich_help_panel=_OF_RUN)
]
_Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes that predict; one a core, or a GPU, if left out.", rich_help_panel=_OF_RUN),
]
_SaveEveryS = Annotated[
    float,
    typer.Option(min=0, help="Write rows so often, seconds: what a killed run loses.", rich_help_panel=_OF_RUN),
]
_RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="A running Ray cluster, or `auto` on one of its machines; else Ray is started here. For trusted "
        "networks alone: docs/screening.md.",
        rich_help_panel=_OF_RUN,
    ),
]
_Restart = Annotated[
    bool, typer.Option("--restart", help="Delete the rows of an earlier run in DIR.", rich_help_panel=_OF_RUN)
]


def screen(  # noqa: PLR0917 - typer passes each by name
    inputs: _Inputs,
    ion: Annotated[str, typer.Option(help="The ion that hops, or several: Li,Na.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the tables; created where it is missing.")],
    only_present: _OnlyPresent = False,
    limit: Annotated[int | None, typer.Option(min=0, help="Screen so many inputs at most.")] = None,
    shuffle: _Shuffle = None,
    model: options.Model = None,
    threshold_ev: options.ThresholdEv = 0.65,
    mechanism: options.Mechanism = "auto",
    max_hops: options.MaxHops = None,
    max_hop_angstrom: options.MaxHopAngstrom = 5.0,
    interstitials: options.Interstitials = False,
    include_close_hops: options.IncludeCloseHops = False,
    timeout_s: _TimeoutS = 60.0,
    memory_mib: _MemoryMib = None,
    max_entries: _MaxEntries = 5_000_000,
    max_unpacked_gib: _MaxUnpackedGib = 64.0,
    workers: _Workers = None,
    save_every_s: _SaveEveryS = 20.0,
    ray_address: _RayAddress = None,
    restart: _Restart = False,
) -> None:
    """Screen crystals in bulk: each ion's hops, barriers and percolation, as tables in DIR.

    Examples: `ionpath screen crystals/ --ion Li --output screened`;
    `ionpath screen crystals.tar.xz --ion Li,Na --only-present --output screened`;
    `ionpath screen page.json --ion Mg --limit 1000 --shuffle 1 --output screened`.

    The same command again goes on where it stopped, however it stopped. A crystal that cannot be read or predicted is
    a row of failures.parquet. `ionpath report DIR` ranks what came out.

    The exit status is 0 where every input has its rows, 130 after Ctrl-C, 2 where the run could not go on.
    """
    _check_installed()
    from app.screening.job import Job, ModelChoice, Question  # noqa: PLC0415 # needs the extra
    from app.screening.sources.items import SourceLimits  # noqa: PLC0415 # as above

    settings = read_settings_aloud()
    name = model or settings.default_model
    ions = ions_of(ion)
    job = Job(
        inputs=tuple(inputs),
        output=output,
        question=Question(
            ions=ions,
            only_present=only_present,
            hops=HopOptions(
                mechanism=mechanism,
                max_hops=max_hops or settings.max_hops,
                max_hop_angstrom=max_hop_angstrom,
                interstitials=interstitials,
                include_close_hops=include_close_hops,
                max_orderings=settings.max_orderings,
            ),
            limits=limits_of(settings),
            threshold_ev=threshold_ev,
            timeout_s=timeout_s,
            memory_mib=memory_mib or settings.parse_memory_mib,
        ),
        model=ModelChoice(
            store=settings.model_store.resolve(),
            name=name,
            digest=_digest(settings, name),
            device=settings.device,
            conductivity=_conductivity(settings, ions),
        ),
        limit=limit,
        shuffle=shuffle,
        workers=workers,
        save_every_s=save_every_s,
        ray_address=ray_address,
    )
    limits = SourceLimits(
        max_entries=max_entries,
        max_unpacked_bytes=round(max_unpacked_gib * _GIB),
        max_entry_bytes=settings.max_body_bytes,
    )
    _run(job, limits, restart=restart)


def _run(job: "Job", limits: "SourceLimits", *, restart: bool) -> None:
    """Screen, say on standard error how it ended, and exit accordingly."""
    from app.screening.errors import ScreeningError  # noqa: PLC0415 # needs the extra
    from app.screening.progress import shown_progress  # noqa: PLC0415 # as above
    from app.screening.run import ScreeningInterruptedError, run  # noqa: PLC0415 # as above

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is done is written
    try:
        summary = run(job, limits, shown_progress(), restart=restart)
    except ScreeningInterruptedError as stopped:
        _tell(f"Interrupted: {_counts(stopped.summary)} The same command goes on.")
        _tell_passed_by(stopped.summary)
        raise typer.Exit(INTERRUPTED_STATUS) from None
    except KeyboardInterrupt:
        _tell("Interrupted before the first crystal. The same command starts again.")
        raise typer.Exit(INTERRUPTED_STATUS) from None
    except ScreeningError as error:
        fail(str(error))
    _tell(f"Done: {_counts(summary)} `ionpath report {job.output}` ranks them.")
    _tell_passed_by(summary)


def _tell_passed_by(summary: "Summary") -> None:
    from app.screening.passed_by import in_words  # noqa: PLC0415 # what only this command needs

    if summary.passed_by:
        _tell(in_words(summary.passed_by))


def report(  # noqa: PLR0917 - typer passes each by name
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The output of `ionpath screen`.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="The report; report.html in DIR if left out.")
    ] = None,
    by: Annotated[
        Literal["1d", "2d", "3d", "ranking", "conductivity"],
        typer.Option(
            "--by",
            help="What ranks: the barrier of percolation through the crystal in so many dimensions, ranking_ev, or the "
            "chance of a conductivity above 1e-4 S/cm (lithium).",
        ),
    ] = "1d",
    top: Annotated[int, typer.Option(min=0, help="So many crystals are drawn and written.")] = 100,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE.csv", help="Write every row of the ranking.")
    ] = None,
    write_cif: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the crystals of the top as CIF, without symmetry.")
    ] = None,
    write_neb: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write their bottleneck hops as folders of POSCARs to start a DFT-NEB from."),
    ] = None,
) -> None:
    """Rank what a screening found: one HTML file with tables, figures and the best hops, and files for the next step.

    Examples: `ionpath report screened`; `ionpath report screened --by 3d --csv ranking.csv`;
    `ionpath report screened --by conductivity --top 20 --write-cif best --write-neb bands`.

    It may be asked while the screening runs, and needs nothing but DIR.
    """
    _check_installed()
    from app.screening.errors import ScreeningError  # noqa: PLC0415 # needs the extra
    from app.screening.report import structures, writing  # noqa: PLC0415 # as above
    from app.screening.report.ranking import ranked  # noqa: PLC0415 # as above

    try:
        result = ranked(folder, by)
        best = [row for row in result.rows[:top] if row[result.figure] is not None]
        path = output or folder / "report.html"
        writing.write_page(result, path, top=top)
        _tell(f"Wrote {path}: {len(result.rows)} rows.{_unfinished(result.run)}")
        if csv is not None:
            writing.write_csv(result, csv)
            _tell(f"Wrote {csv}.")
        if write_cif is not None:
            _tell(f"Wrote {len(structures.write_cifs(result, best, write_cif))} CIFs to {write_cif}.")
        if write_neb is not None:
            bands = structures.write_nebs(result, best, write_neb)
            _tell(f"Wrote {len(bands.paths)} POSCARs of {bands.crystals} crystals to {write_neb}.")
            for reason, rows in bands.left_out.items():
                _tell_not_written(f"Their hops are not written, since {reason}", rows)
        if write_cif is not None or write_neb is not None:
            unranked = [row for row in result.rows[:top] if row[result.figure] is None]
            _tell_not_written(f"Not written, since they have no {result.figure}", unranked)
    except ScreeningError as error:
        fail(str(error))


def _unfinished(run: "Row") -> str:
    """That more rows may come, where the run is not complete."""
    if run["state"] == "complete":
        return ""
    done = f"{run.get('counts', {}).get('inputs_done', 0)} of {run.get('inputs', 0)} inputs are done"
    return f" The run is not finished ({run['state']}): {done}."


def _tell_not_written(why: str, rows: "Sequence[Row]") -> None:
    if not rows:
        return
    named = ", ".join(f"{row['id']} ({row['ion']})" for row in rows[:_MOST_NAMED])
    others = f" and {len(rows) - _MOST_NAMED} others" if len(rows) > _MOST_NAMED else ""
    _tell(f"{why}: {named}{others}.")


def _counts(summary: "Summary") -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in summary.failures.items())
    failed = f", {summary.failed} failures ({kinds})" if summary.failures else ""
    return (
        f"{summary.done} of {summary.inputs} inputs, {summary.crystals} rows of crystals{failed}, "
        f"{summary.seconds:.0f} s."
    )


def _check_installed() -> None:
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        fail("Screening needs Ray: pip install '.[screen]' in a clone of ionpath, or make setup.")


def ions_of(text: str) -> tuple[str, ...]:
    """The elements that were named, each read as `ionpath predict` reads one."""
    named = [one for one in text.split(",") if one.strip()]
    if not named:
        fail(f"--ion {text}: no ion is named. Write symbols, such as Li or Li,Na.")
    try:
        return tuple(dict.fromkeys(plain_symbol(one, "--ion") for one in named))
    except InputError as error:
        fail(f"--ion {text}: {error.detail} Write symbols, such as Li or Li,Na.")


def _digest(settings: Settings, name: str) -> str:
    try:
        return read_card(settings.model_store / name).digest
    except CheckpointError as error:
        fail(f"{error}. `ionpath models` lists the checkpoints that predict barriers.")


def _conductivity(settings: Settings, ions: tuple[str, ...]) -> "ConductivityChoice | None":
    from app.screening.job import ConductivityChoice  # noqa: PLC0415 # needs the extra

    try:
        card = conductivity_card(settings.model_store, ions)
    except CheckpointError as error:
        fail(f"{error}.")
    return None if card is None else ConductivityChoice(name=card.name, digest=card.digest)


def _tell(message: str) -> None:
    typer.echo(f"ionpath: {message}", err=True)
