"""The report as one HTML file that asks no other host for anything."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import orjson

from app.screening.passed_by import named
from app.screening.report.drawing import hop_svg
from app.screening.report.ranking import (
    DIMENSIONS,
    Group,
    Ranked,
    Row,
    failures_by_kind,
    grouped,
    percolating,
)
from app.screening.report.structures import hops_of, structures_of
from app.screening.rows import CHANCE_COLUMN

#: Rows of the page's table; of more a browser becomes slow, and the CSV has all.
MOST_ROWS = 20_000
_BIN_EV, _BINS = 0.1, 20
_EVEN = 0.5
_COLUMNS = (
    "rank",
    "id",
    "ion",
    "formula",
    "family",
    "anion",
    "space_group",
    "percolation_1d_ev",
    "percolation_2d_ev",
    "percolation_3d_ev",
    "ranking_ev",
    "probability",
    "in_domain",
    "log10_conductivity_s_per_cm",
    CHANCE_COLUMN,
    "conductivity_in_domain",
    "hops",
    "atoms",
)


def page(result: Ranked, *, top: int) -> str:
    """The report's HTML.

    Args:
        result: the ranking.
        top: of so many crystals the bottleneck hop is drawn.
    """
    template = Template(files("app.screening.report").joinpath("report.html").read_text(encoding="utf-8"))
    settings = result.run["settings"]
    return template.substitute(
        title=escape(f"{', '.join(settings['ions'])}: {len(result.rows)} crystals screened"),
        counts=_counts(result),
        ranking=_how_ranked(result),
        histograms="".join(_histogram(result, dimension) for dimension in DIMENSIONS),
        anions=_groups(grouped(result, "anion"), "anion"),
        families=_groups(grouped(result, "family"), "family"),
        failures=_failures(result),
        hops=_drawings(result, result.rows[:top]),
        data=_json([[_cell(row, result.dimension, name) for name in _COLUMNS] for row in result.rows[:MOST_ROWS]]),
        columns=_json(_COLUMNS),
        left_out=_left_out(len(result.rows)),
    )


def _json(value: Any) -> str:
    """JSON that may stand in a script element."""
    return orjson.dumps(value).decode().replace("<", "\\u003c")


def _cell(row: Row, dimension: str, name: str) -> Any:
    value = row[f"{name}_{dimension}"] if name in {"probability", "in_domain"} else row[name]
    return round(value, 4) if isinstance(value, float) else value


def _counts(result: Ranked) -> str:
    run, settings = result.run, result.run["settings"]
    good = sum(group.below for group in grouped(result, "ion"))
    rows = [
        ("inputs", f"{run.get('counts', {}).get('inputs_done', 0):,} of {run.get('inputs', 0):,} ({run['state']})"),
        *_passed_by(run),
        ("crystals and ions with an answer", f"{len(result.rows):,}"),
        ("failures", f"{len(result.failures):,}"),
        *[(f"percolating in {name}", f"{len(percolating(result.rows, name)):,}") for name in DIMENSIONS],
        (
            f"in the model's domain, {result.dimension} barrier below {settings['threshold_ev']:g} eV",
            f"{good:,}",
        ),
        *_counts_of_conductivity(result),
        ("model", f"{settings['model']} ({settings['model_digest'][:12]})"),
        ("ionpath", run.get("versions", {}).get("ionpath", "")),
        ("screened", f"{(run.get('started_at') or '')[:16]} to {(run.get('finished_at') or '')[:16]} UTC"),
        ("inputs named", ", ".join(settings["inputs"])),
    ]
    return "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)


def _passed_by(run: Row) -> list[tuple[str, str]]:
    count = run.get("files_passed_by", 0)
    names = run.get("first_passed_by", ())  # runs of earlier releases name none
    if not names:
        return []
    return [("files passed by, as their names are not those of crystals", f"{count:,}: {named(names, count)}")]


def _counts_of_conductivity(result: Ranked) -> list[tuple[str, str]]:
    known = [row for row in result.rows if row["log10_conductivity_s_per_cm"] is not None]
    if not known:
        return []
    likely = sum(row["conductivity_in_domain"] and row[CHANCE_COLUMN] > _EVEN for row in known)
    settings = result.run["settings"]
    return [
        ("with a conductivity", f"{len(known):,}"),
        ("in its model's domain, more likely above 1e-4 S/cm than below", f"{likely:,}"),
        ("model of conductivity", f"{settings['conductivity_model']} ({settings['conductivity_digest'][:12]})"),
    ]


def _how_ranked(result: Ranked) -> str:
    threshold_ev, name = result.run["settings"]["threshold_ev"], result.dimension
    if result.by == "ranking":
        return escape(
            "Ranked by: in the model's domain first; then ranking_ev, the mean of the 3d percolation barriers by the "
            "model and by bond valence, and 0.5 eV (set for lithium) more where the host is ordered. Crystals without "
            "a ranking_ev come last: their hops, or bond valence, do not connect in three dimensions."
        )
    if result.by == "conductivity":
        return escape(
            "Ranked by: in the domain of the model of conductivity first; then the probability of a conductivity above "
            "1e-4 S/cm at room temperature; then the conductivity. Ions without a model of it come last."
        )
    return escape(
        f"Ranked by: in the model's domain first; then the probability that the {name} percolation barrier lies below "
        f"{threshold_ev:g} eV; then the barrier. Crystals that do not percolate in {name} come last."
    )


def _left_out(count: int) -> str:
    if count <= MOST_ROWS:
        return ""
    return escape(f"The first {MOST_ROWS:,} of {count:,} rows are here; `ionpath report --csv FILE` writes all.")


def _histogram(result: Ranked, dimension: Any) -> str:
    """Percolation barriers as bars."""
    barriers = percolating(result.rows, dimension)
    counts = [0] * _BINS
    for barrier in barriers:
        counts[min(int(barrier / _BIN_EV), _BINS - 1)] += 1
    width, height, foot = 340, 120, 18
    step, most = width / _BINS, max([*counts, 1])
    bars = "".join(
        f'<rect x="{k * step + 1:.1f}" y="{height - height * count / most:.1f}" width="{step - 2:.1f}" '
        f'height="{height * count / most:.1f}"><title>{k * _BIN_EV:.1f} to '
        f"{'more' if k == _BINS - 1 else f'{(k + 1) * _BIN_EV:.1f}'} eV: {count}</title></rect>"
        for k, count in enumerate(counts)
    )
    marks = "".join(
        f'<text x="{k * step:.1f}" y="{height + 14}" font-size="11">{k * _BIN_EV:.1f}</text>'
        for k in range(0, _BINS, 5)
    )
    return (
        f"<figure><figcaption>{dimension}: {len(barriers):,} percolate</figcaption>"
        f'<svg viewBox="0 0 {width} {height + foot}" width="{width}" role="img" '
        f'aria-label="percolation barriers in {dimension}, eV">{bars}{marks}</svg></figure>'
    )


def _groups(groups: Sequence[Group], what: str) -> str:
    head = (
        f"<tr><th>{what}</th><th>crystals</th><th>percolating</th><th>barrier, eV: 25, 50, 75 %</th><th>good</th></tr>"
    )
    rows = [
        f"<tr><td>{escape(group.name)}</td><td>{group.count}</td><td>{group.percolating}</td><td>"
        + (" / ".join(f"{one:.2f}" for one in group.quartiles_ev) if group.quartiles_ev else "")
        + f"</td><td>{group.below}</td></tr>"
        for group in groups
    ]
    return f"<table>{head}{''.join(rows)}</table>"


def _failures(result: Ranked) -> str:
    if not result.failures:
        return "<p>None.</p>"
    rows = "".join(
        f"<tr><td>{escape(kind)}</td><td>{count}</td><td>{escape(words)}</td></tr>"
        for kind, count, words in failures_by_kind(result.failures)
    )
    return f"<table><tr><th>kind</th><th>rows</th><th>the first one</th></tr>{rows}</table>"


def _drawings(result: Ranked, rows: Sequence[Row]) -> str:
    """The bottleneck hop of each row, drawn."""
    shown = [row for row in rows if row[f"bottleneck_hops_{result.dimension}"]]
    if not shown:
        return "<p>Nothing percolates.</p>"
    structures, hops = structures_of(result, shown), hops_of(result, shown)
    return "".join(
        _drawing(result, row, structures[key], hops[key]) for row in shown for key in [(row["id"], row["ion"])]
    )


def _drawing(result: Ranked, row: Row, crystal: Any, hops: Sequence[Row]) -> str:
    hop = hops[row[f"bottleneck_hops_{result.dimension}"][0] - 1]
    directions = ", ".join(str(direction) for direction in row[f"directions_{result.dimension}"])
    doubts = " ".join(hop["reasons"])
    words = (
        f"hop {hop['hop']}: {hop['distance_angstrom']:.2f} Å, {hop['barrier_ev']:.2f} eV "
        f"({hop['low_ev']:.2f} to {hop['high_ev']:.2f}), along {directions}"
    )
    return (
        f"<figure class=hop>{hop_svg(crystal, hop, row['ion'])}<figcaption>"
        f"<b>{row['rank']}. {escape(row['formula'])}</b> {escape(row['id'])}, {escape(row['ion'])}<br>{escape(words)}"
        + (f"<br><i>{escape(doubts)}</i>" if doubts else "")
        + "</figcaption></figure>"
    )
