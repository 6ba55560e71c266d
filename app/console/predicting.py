"""`ionpath predict`: from what was typed to what is printed and written."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from app.console.asking import Caller, Question, StoppedError, ask
from app.console.conductivity import ConductivityCsv, ConductivityTable
from app.console.messages import INTERRUPTED_STATUS, fail, say, say_written
from app.console.outputs import BarrierCsv, BarrierTable, JsonWriter
from app.console.printing import Writer
from app.console.properties import PropertyCsv, PropertyTable
from app.console.reporting import Reporter
from app.console.sources import Input, SourceError, crystals_of, inputs_of
from app.errors import IonpathError
from app.models.cards.card import CheckpointError

#: As the option's help says.
_PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The files of a command, as its arguments and options name them."""

    files: Sequence[Path]
    ion: str | None
    initial: Path | None
    final: Path | None
    cell: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The forms in which results are wanted.

    Attributes:
        as_json, as_csv: on standard output, in place of a table.
        plot: a picture to draw.
        neb_folder: where hops are written as folders of POSCARs.
    """

    as_json: bool
    as_csv: bool
    plot: Path | None
    neb_folder: Path | None


def predict(given: Inputs, question: Question, wanted: Outputs, caller: Callable[[], Caller]) -> None:
    """Predict files and print the results; leaves by typer.Exit where something is wrong.

    Args:
        given: the files.
        question: what is asked of each.
        wanted: how results are shown.
        caller: opens what answers.
    """
    _check_outputs(wanted)
    whole = _whole_crystals(given, question, wanted)
    try:
        inputs = (
            crystals_of(given.files, ion=given.ion, cell=given.cell)
            if whole
            else inputs_of(given.files, ion=given.ion, initial=given.initial, final=given.final, cell=given.cell)
        )
    except SourceError as error:
        fail(str(error))
    writer = _writer(wanted, [one.label for one in inputs], question)
    report = Reporter(len(inputs), writer, neb_folder=wanted.neb_folder, keep=wanted.plot is not None)
    _run(caller, inputs, question, report)
    say_written(report.folders)
    if wanted.plot is not None:
        _draw(report, wanted.plot, question.threshold_ev)
    if report.failed:
        say(_failures(report))
        raise typer.Exit(1)


def _whole_crystals(given: Inputs, question: Question, wanted: Outputs) -> bool:
    """Whether what is asked is of whole crystals, for which options of hops are refused."""
    if question.properties and question.conductivity:
        fail("--properties and --conductivity are two calls: leave one of them out.")
    if not (question.properties or question.conductivity):
        return False
    of_hops: dict[str, object] = {"--initial": given.initial, "--final": given.final}
    of_hops |= {"--plot": wanted.plot, "--write-neb": wanted.neb_folder}
    if question.properties:
        of_hops |= {"--ion": given.ion}
    if named := [name for name, value in of_hops.items() if value is not None]:
        whole = "--properties" if question.properties else "--conductivity"
        fail(f"{named[0]} is for hops, and {whole} is of the whole crystal: leave one of them out.")
    return True


def _writer(wanted: Outputs, labels: Sequence[str], question: Question) -> Writer:
    if wanted.as_json:
        return JsonWriter(sys.stdout)
    table, rows = (
        (PropertyTable, PropertyCsv)
        if question.properties
        else (ConductivityTable, ConductivityCsv)
        if question.conductivity
        else (BarrierTable, BarrierCsv)
    )
    return rows(sys.stdout) if wanted.as_csv else table(labels, sys.stdout)


def _run(caller: Callable[[], Caller], inputs: Sequence[Input], question: Question, report: Reporter) -> None:
    """Predict every input; where that ends early, say how far it came."""
    try:
        with report:
            asyncio.run(ask(caller(), inputs, question, report))
    except StoppedError as error:
        say(f"{error.detail} {done_so_far(report, inputs)}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        say(f"Interrupted. {done_so_far(report, inputs)}")
        raise typer.Exit(INTERRUPTED_STATUS) from None
    except BrokenPipeError:
        raise  # `| head`: typer ends without a word
    except IonpathError as error:
        fail(error.detail)
    except (CheckpointError, OSError) as error:  # such as a folder that cannot be written
        fail(str(error))


def _draw(report: Reporter, plot: Path, threshold_ev: float) -> None:
    from app.console.drawing import draw  # noqa: PLC0415 - matplotlib takes a second to import

    try:
        draw(report.results, plot, threshold_ev=threshold_ev)
    except (OSError, ValueError) as error:  # a file that cannot be written, more than a picture holds
        fail(str(error))
    say_written([plot])


def done_so_far(report: Reporter, inputs: Sequence[Input]) -> str:
    """What a run came to that ends early, and which files are missing though later ones are in the output."""
    done = f"{report.written} of {report.total} files were done" + (
        f", {report.failed} of them with a problem." if report.failed else "."
    )
    labels = [one.label for one in inputs]
    last = max((number for number, label in enumerate(labels) if label in report.labels), default=-1)
    missing = [label for label in labels[: max(last, 0)] if label not in report.labels]
    return f"{done} Not among them, though later files are: {_listed(missing)}." if missing else done


def _failures(report: Reporter) -> str:
    named = [f"{label} ({kind})" for label, kind in report.failures]
    return f"{report.written - report.failed} of {report.total} files were predicted; not {_listed(named)}."


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _check_outputs(wanted: Outputs) -> None:
    """Refuse what could not be written, before minutes are spent on what it would show."""
    if wanted.as_json and wanted.as_csv:
        fail("--json and --csv are two forms: leave one of them out.")
    plot = wanted.plot
    if plot is not None and plot.suffix.lower() not in _PICTURES:
        fail(f"--plot {plot}: a picture's name ends in {', '.join(_PICTURES)}.")
    if plot is not None and not plot.parent.is_dir():
        fail(f"--plot {plot}: there is no folder {plot.parent}.")
