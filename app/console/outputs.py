"""Results as a table, JSON lines or CSV."""

import io
import itertools
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import orjson
from rich.text import Text

from app.console.asking import Result
from app.console.printing import CsvWriter, Heading, TableWriter, as_options, plain_table, problem_line, show
from app.serving.answers.as_csv import (
    CONNECTION_COLUMNS,
    HOP_COLUMNS,
    LEANING_COLUMNS,
    NOTE_COLUMNS,
    PERCOLATION_COLUMNS,
    RANKING_COLUMNS,
    UNBOUNDED,
    UPLOADED_COLUMNS,
    answer_rows,
)
from app.serving.answers.as_json import UNBOUNDED_EV

#: New ones come last: scripts count columns.
CSV_COLUMNS = (
    "file",
    *HOP_COLUMNS,
    "problem",
    *PERCOLATION_COLUMNS,
    *NOTE_COLUMNS,
    *UPLOADED_COLUMNS,
    *CONNECTION_COLUMNS,
    *LEANING_COLUMNS,
    *RANKING_COLUMNS,
)


class JsonWriter:
    """One object a line: the file, and the answer's fields or the problem."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, result: Result) -> None:
        """Write a line."""
        content = result.answer if result.answer is not None else {"problem": result.problem}
        self._stream.write(orjson.dumps({"file": result.label, **content}).decode() + "\n")
        self._stream.flush()


class BarrierCsv(CsvWriter):
    """One row a band or hop."""

    columns = CSV_COLUMNS

    def rows(self, answer: dict[str, Any]) -> Iterable[Mapping[str, Any]]:
        """See CsvWriter."""
        return answer_rows(answer)


def _hop_name(row: Mapping[str, Any]) -> str:
    """Such as `1: 0 to 4 [0 1 0]`; nothing for a band."""
    return f"{row['hop']}: {row['from_site']} to {row['to_site']} [{row['offset']}]" if "hop" in row else ""


class BarrierTable(TableWriter):
    """Bands a row each, crystals a row a hop."""

    headings = (
        Heading(name="ion", least_width=3),
        Heading(name="hop", least_width=21),
        Heading(name="Å", least_width=5, justify="right"),
        Heading(name="times", least_width=5, justify="right"),
        Heading(name="barrier eV", least_width=10, justify="right"),
        Heading(name="90 % interval", least_width=13, justify="right"),
        Heading(name="good", least_width=4),
        Heading(name="chance", least_width=6, justify="right"),
        Heading(name="in domain", least_width=9),
    )

    def rows(self, result: Result) -> Iterator[Sequence[str]]:
        """See TableWriter."""
        return (tuple(_cells(row)) for row in _rows(result) if "barrier_ev" in row)

    def remarks(self, result: Result) -> Iterator[Text]:
        """See TableWriter."""
        return _remarks(result)


def _rows(result: Result) -> Iterable[Mapping[str, Any]]:
    return () if result.answer is None else answer_rows(result.answer)


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    length = row.get("distance_angstrom")
    yield from (row["ion"], _hop_name(row))
    yield f"{length:.2f}" if length is not None else ""
    yield str(row.get("multiplicity", ""))
    yield f"{row['barrier_ev']:.3f}"
    high = row["high_ev"]  # a number, or the word for none
    yield f"{row['low_ev']:.2f} to {high if isinstance(high, str) else format(high, '.2f')}"
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
            yield Text(f"{result.label}: hop {_hop_name(row)} is left out: {as_options(row['excluded_because'])}")
    yield from _connections(result.label, answer)
    yield from _uploaded(result.label, answer)
    if any(row.get("high_ev") == UNBOUNDED for row in _rows(result)):
        yield Text(
            f"{result.label}: intervals that reach above {UNBOUNDED_EV:g} eV are given as unbounded", style="yellow"
        )
    yield from _doubts(result.label, answer)
    if answer.get("truncated"):
        yield Text(f"{result.label}: more hops exist; see --max-hops", style="yellow")
    for warning in answer.get("warnings", ()):
        yield Text(f"{result.label}: {as_options(warning)}", style="yellow")


def _connections(label: str, answer: dict[str, Any]) -> Iterator[Text]:
    """How the hops of a crystal connect, by the model, by bond valence and by a second opinion."""
    if answer.get("percolation_ev") is not None:
        figures = ", ".join(_ways_through(answer))
        yield Text(f"{label}: connects through the crystal in {figures} ({answer['mechanism']})", style="bold")
    by_bond_valence = answer.get("bond_valence") or {}
    if by_bond_valence.get("detail"):
        yield Text(f"{label}: no figure by bond valence: {by_bond_valence['detail']}")
    elif by_bond_valence:
        yield Text(f"{label}: by bond valence in {', '.join(_ways_through(by_bond_valence))}")
    opinion = answer.get("second_opinion") or {}
    if opinion.get("answered"):
        yield Text(f"{label}: by bond-valence site energies (bvlain) in {', '.join(_ways_through(opinion))}")


def _uploaded(label: str, answer: dict[str, Any]) -> Iterator[Text]:
    """The barrier of an uploaded band by its own energies, both ways."""
    found = answer.get("uploaded_band")
    if found is None or (found["forward_ev"] is None and found["reverse_ev"] is None):
        return
    ways = [f"{found[key]:.3f} eV {way}" for key, way in _WAYS.items() if found[key] is not None]
    where = f"image {found['highest_image']} of 0 to {len(found['energies_ev']) - 1}"
    yield Text(f"{label}: by the energies in the file {' and '.join(ways)}, {where} being the highest", style="bold")


_WAYS = {"forward_ev": "forward", "reverse_ev": "back"}


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
        line = f"{name}: {energy:.3f} eV"
        line += f" ({interval['low']:.2f} to {_top(interval)})" if interval else ""
        share = more.get("percolating_share")
        line += f" in {share:.0%} of its fillings" if share is not None and share < 1 else ""
        directions = " and ".join(f"[{' '.join(map(str, one))}]" for one in more.get("directions") or ())
        yield f"{line} along {directions}" if directions else line


def _top(interval: dict[str, Any]) -> str:
    return UNBOUNDED if interval["high"] is None else f"{interval['high']:.2f}"


def write_neb(result: Result, folder: Path) -> Path | None:
    """Unpack a result's bands, if it has any, into a folder of its own, named after its file; give that folder.

    Raises:
        OSError: a folder cannot be written.
    """
    if result.bands_zip is None:
        return None
    own = folder / _free_name(Path(result.label).stem, folder)
    with zipfile.ZipFile(io.BytesIO(result.bands_zip)) as archive:
        archive.extractall(own)
    return own


def _free_name(stem: str, folder: Path) -> str:
    """The stem, numbered where a folder has it already, of this run or an earlier one: hops of two files never mix."""
    name = re.sub(r"[^\w.+-]+", "_", stem).strip("._") or "bands"
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(one for one in names if not (folder / one).exists())


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
    show(table, stream)


def _accuracy(metrics: dict[str, Any]) -> str:
    """On sound bands or measured crystals, by folding, or on test crystals, by property; with its 95 % interval."""
    errors = [(figures["sound"]["mae_ev"], f"eV, {name}") for name, figures in metrics.items() if "sound" in figures]
    errors += [
        (figures["model"]["mae_decades"], f"decades, {name}")
        for name, figures in metrics.items()
        if "mae_decades" in figures.get("model", {})
    ]
    errors += [
        (figures["mae"], f"{figures['unit']}, {name}".removeprefix(", "))
        for name, figures in metrics.get("test", {}).items()
        if "mae" in figures
    ]
    return "\n".join(
        f"{e['value']:.3f} ({e['low']:.3f} to {e['high']:.3f}) {of}" for e, of in errors if e["value"] is not None
    )
