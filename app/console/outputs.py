"""Results as a table, JSON lines or CSV."""

import csv
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.console.asking import Result

COLUMNS = (
    "file",
    "ion",
    "formula",
    "hop",
    "distance_angstrom",
    "multiplicity",
    "barrier_ev",
    "low_ev",
    "high_ev",
    "good_conductor",
    "probability",
    "in_domain",
    "model",
    "problem",
)


def write_json(results: Sequence[Result], stream: TextIO) -> None:
    """One object a line: the file, and the answer's fields or the problem."""
    for result in results:
        content = result.answer if result.answer is not None else {"problem": result.problem}
        stream.write(orjson.dumps({"file": result.label, **content}).decode() + "\n")


def write_csv(results: Sequence[Result], stream: TextIO) -> None:
    """One row a band or hop, empty where there is nothing to say."""
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for result in results:
        writer.writerows(_rows(result))


def _rows(result: Result) -> Iterator[dict[str, Any]]:
    answer = result.answer
    if answer is None:
        yield {"file": result.label, "problem": (result.problem or {}).get("detail", "")}
        return
    common = {
        "file": result.label,
        "ion": answer["ion"],
        "formula": answer["formula"],
        "model": answer["model"]["name"],
    }
    if answer.get("hops") is None:
        yield {**common, **_figures(answer)}
        return
    for hop in answer["hops"]:
        yield {
            **common,
            "hop": _hop_name(hop),
            "distance_angstrom": round(hop["distance_angstrom"], 4),
            "multiplicity": hop["multiplicity"],
            **_figures(hop),
            "problem": hop["excluded_because"] or "",
        }


def _hop_name(hop: dict[str, Any]) -> str:
    return f"{hop['from_site']}>{hop['to_site']} [{' '.join(str(step) for step in hop['offset'])}]"


def _figures(predicted: dict[str, Any]) -> dict[str, Any]:
    if predicted.get("barrier_ev") is None:
        return {}
    return {
        "barrier_ev": round(predicted["barrier_ev"], 4),
        "low_ev": round(predicted["interval_ev"]["low"], 4),
        "high_ev": round(predicted["interval_ev"]["high"], 4),
        "good_conductor": "yes" if predicted["good_conductor"]["verdict"] else "no",
        "probability": round(predicted["good_conductor"]["probability"], 3),
        "in_domain": "yes" if predicted["in_domain"]["verdict"] else "no",
    }


def write_table(results: Sequence[Result], stream: TextIO) -> None:
    """A table for people: bands a row each, crystals a row a hop, and what was noticed below."""
    console = Console(file=stream, highlight=False, markup=False)  # file names and formulas are no markup
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in _HEADINGS:
        table.add_column(heading, justify=justify)  # type: ignore[arg-type] # rich's own literal type
    for result in results:
        for row in _rows(result):
            if not row.get("problem"):
                table.add_row(*_cells(row))
    if table.row_count:
        console.print(table)
    for result in results:
        for line in _remarks(result):
            console.print(line, soft_wrap=True)


_HEADINGS = (
    ("file", "left"),
    ("ion", "left"),
    ("hop", "left"),
    ("length Å", "right"),
    ("barrier eV", "right"),
    ("90 % interval", "right"),
    ("good", "left"),
    ("probability", "right"),
    ("in domain", "left"),
)


def _cells(row: dict[str, Any]) -> Iterator[str]:
    length = row.get("distance_angstrom")
    known = "barrier_ev" in row
    yield from (str(row["file"]), row["ion"], row.get("hop", ""))
    yield f"{length:.2f}" if length is not None else ""
    yield f"{row['barrier_ev']:.3f}" if known else "-"
    yield f"{row['low_ev']:.2f} to {row['high_ev']:.2f}" if known else ""
    yield str(row.get("good_conductor", ""))
    yield f"{row['probability']:.2f}" if known else ""
    yield str(row.get("in_domain", ""))


def _remarks(result: Result) -> Iterator[Text]:
    if result.problem is not None:
        parts = (result.problem.get(name) for name in ("detail", "where", "expected"))
        yield Text(f"{result.label}: " + " | ".join(part for part in parts if part), style="red")
        return
    answer = result.answer or {}
    for hop in answer.get("hops") or ():
        if hop["excluded_because"]:
            yield Text(f"{result.label}: hop {_hop_name(hop)} is left out: {hop['excluded_because']}")
    percolation = answer.get("percolation_ev")
    if percolation is not None:
        figures = ", ".join(
            f"{name}: {'never' if energy is None else f'{energy:.3f} eV'}" for name, energy in percolation.items()
        )
        yield Text(f"{result.label}: connects through the crystal in {figures} ({answer['mechanism']})", style="bold")
    if answer.get("truncated"):
        yield Text(f"{result.label}: more hops exist; see --max-hops", style="yellow")
    for warning in answer.get("warnings", ()):
        yield Text(f"{result.label}: {warning}", style="yellow")


def write_models(listed: dict[str, Any], stream: TextIO, *, as_json: bool) -> None:
    """The checkpoints, the default one marked; or their cards whole."""
    if as_json:
        stream.write(orjson.dumps(listed, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "version", "network", "MAE eV, out of fold", "digest"):
        table.add_column(heading)
    for card in listed["models"]:
        name = f"{card['name']} (default)" if card["name"] == listed["default"] else str(card["name"])
        table.add_row(name, card["version"], card["network"], _accuracy(card["metrics"]), card["digest"][:12])
    Console(file=stream, highlight=False, markup=False).print(table)


def _accuracy(metrics: dict[str, Any]) -> str:
    """The mean error on sound bands that were not fitted, by folding, with its 95 % interval."""
    errors = {name: figures["sound"]["mae_ev"] for name, figures in metrics.items() if "sound" in (figures or ())}
    return ", ".join(f"{e['value']:.3f} ({e['low']:.3f} to {e['high']:.3f}), {name}" for name, e in errors.items())
