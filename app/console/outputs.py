"""Results as a table, JSON lines or CSV."""

import io
import itertools
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import orjson
from rich.text import Text

from app.console.asking import Result
from app.console.printing import plain_table, problem_line, problem_row, show, write_rows
from app.serving.answers.as_csv import COLUMNS, answer_rows

CSV_COLUMNS = ("file", *COLUMNS, "problem")


def write_json(results: Sequence[Result], stream: TextIO) -> None:
    """One object a line: the file, and the answer's fields or the problem."""
    for result in results:
        content = result.answer if result.answer is not None else {"problem": result.problem}
        stream.write(orjson.dumps({"file": result.label, **content}).decode() + "\n")


def write_csv(results: Sequence[Result], stream: TextIO) -> None:
    """One row a band or hop, empty where there is nothing to say."""
    write_rows(CSV_COLUMNS, (row for result in results for row in _rows(result)), stream)


def _rows(result: Result) -> Iterator[dict[str, Any]]:
    if result.answer is None:
        yield problem_row(result)
        return
    yield from ({"file": result.label, **row} for row in answer_rows(result.answer))


def _hop_name(row: dict[str, Any]) -> str:
    """Such as `1: 0 to 4 [0 1 0]`; nothing for a band."""
    return f"{row['hop']}: {row['from_site']} to {row['to_site']} [{row['offset']}]" if "hop" in row else ""


def write_table(results: Sequence[Result], stream: TextIO) -> None:
    """A table for people: bands a row each, crystals a row a hop, and what was noticed below."""
    table = plain_table()
    several = len(results) > 1  # of one file alone the name is known
    for heading, justify in _HEADINGS[0 if several else 1 :]:
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type] # rich's own literal type
    for result in results:
        for row in _rows(result):
            if "barrier_ev" in row:
                table.add_row(*([str(row["file"])] if several else ()), *_cells(row))
    show(table, (line for result in results for line in _remarks(result)), stream)


_HEADINGS = (
    ("file", "left"),
    ("ion", "left"),
    ("hop", "left"),
    ("Å", "right"),
    ("times", "right"),
    ("barrier eV", "right"),
    ("90 % interval", "right"),
    ("good", "left"),
    ("chance", "right"),
    ("in domain", "left"),
)


def _cells(row: dict[str, Any]) -> Iterator[str]:
    length = row.get("distance_angstrom")
    yield from (row["ion"], _hop_name(row))
    yield f"{length:.2f}" if length is not None else ""
    yield str(row.get("multiplicity", ""))
    yield f"{row['barrier_ev']:.3f}"
    yield f"{row['low_ev']:.2f} to {row['high_ev']:.2f}"
    yield row["good_conductor"]
    yield f"{row['probability']:.2f}"
    yield row["in_domain"]


def _remarks(result: Result) -> Iterator[Text]:
    if result.problem is not None:
        yield problem_line(result)
        return
    answer = result.answer or {}
    for row in _rows(result):
        if row.get("excluded_because"):
            yield Text(f"{result.label}: hop {_hop_name(row)} is left out: {row['excluded_because']}")
    if answer.get("percolation_ev") is not None:
        figures = ", ".join(_ways_through(answer))
        yield Text(f"{result.label}: connects through the crystal in {figures} ({answer['mechanism']})", style="bold")
    opinion = answer.get("second_opinion") or {}
    if opinion.get("answered"):
        figures = ", ".join(_ways_through(opinion))
        yield Text(f"{result.label}: by bond-valence site energies in {figures}")
    yield from _doubts(result.label, answer)
    if answer.get("truncated"):
        yield Text(f"{result.label}: more hops exist; see --max-hops", style="yellow")
    for warning in answer.get("warnings", ()):
        yield Text(f"{result.label}: {warning}", style="yellow")


def _doubts(label: str, answer: dict[str, Any]) -> Iterator[Text]:
    """Why something is outside of what the model knows, each reason once with the hops that have it."""
    hops_of: dict[str, list[str]] = {}
    hops = answer.get("hops")
    for number, hop in enumerate(hops or [answer], start=1):
        for reason in (hop.get("in_domain") or {}).get("reasons", ()):
            hops_of.setdefault(reason, []).append(str(number))
    for reason, numbers in hops_of.items():
        which = f", hop {', '.join(numbers)}" if hops else ""
        yield Text(f"{label}{which}: outside of what the model knows: {reason}", style="yellow")


def _ways_through(answer: dict[str, Any]) -> Iterator[str]:
    """Such as `1d: 0.231 eV (0.06 to 0.64) along [0 1 0]`, with whatever of it the answer has."""
    details = answer.get("percolation") or {}
    for name, energy in answer["percolation_ev"].items():
        if energy is None:
            yield f"{name}: not by these hops" if answer.get("percolation_upper_bound") else f"{name}: never"
            continue
        more = details.get(name) or {}
        interval = more.get("interval_ev")
        told = f"{name}: {energy:.3f} eV"
        told += f" ({interval['low']:.2f} to {interval['high']:.2f})" if interval else ""
        directions = " and ".join(f"[{' '.join(map(str, one))}]" for one in more.get("directions") or ())
        yield f"{told} along {directions}" if directions else told


def write_neb(results: Sequence[Result], folder: Path) -> list[Path]:
    """Unpack each result's bands into a folder of its own, named after its file; give those folders.

    Raises:
        OSError: a folder cannot be written.
    """
    written: list[Path] = []
    for result in results:
        if result.bands_zip is not None:
            own = folder / _free_name(Path(result.label).stem, folder, written)
            with zipfile.ZipFile(io.BytesIO(result.bands_zip)) as archive:
                archive.extractall(own)
            written.append(own)
    return written


def _free_name(stem: str, folder: Path, written: Sequence[Path]) -> str:
    """The stem, numbered where another result has it already, or the folder from before: hops of two runs never mix."""
    name = re.sub(r"[^\w.+-]+", "_", stem).strip("._") or "bands"
    taken = {path.name for path in written}
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(one for one in names if one not in taken and not (folder / one).exists())


def write_models(listed: dict[str, Any], stream: TextIO, *, as_json: bool) -> None:
    """The checkpoints, the default one marked; or their cards whole."""
    if as_json:
        stream.write(orjson.dumps(listed, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    table = plain_table()
    for heading in ("name", "version", "network", "mean error on what was not fitted", "digest"):
        table.add_column(heading)
    for card in listed["models"]:
        name = f"{card['name']} (default)" if card["name"] == listed["default"] else str(card["name"])
        table.add_row(name, card["version"], card["network"], _accuracy(card["metrics"]), card["digest"][:12])
    show(table, (), stream)


def _accuracy(metrics: dict[str, Any]) -> str:
    """On sound bands, eV, by folding, or on test crystals, by property; with its 95 % interval."""
    errors = [(figures["sound"]["mae_ev"], f"eV, {name}") for name, figures in metrics.items() if "sound" in figures]
    errors += [
        (figures["mae"], f"{figures['unit']}, {name}".removeprefix(", "))
        for name, figures in metrics.get("test", {}).items()
        if "mae" in figures
    ]
    return "\n".join(
        f"{e['value']:.3f} ({e['low']:.3f} to {e['high']:.3f}) {of}" for e, of in errors if e["value"] is not None
    )
