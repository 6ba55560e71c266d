"""The ranking of a screening's crystals, and what they have in common."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pymatgen.core import Composition

from app.screening.errors import ScreeningError
from app.screening.pieces import read_run, table_of_folder
from app.screening.report.families import anion_of, family_of
from app.screening.rows import CHANCE_COLUMN

Dimension = Literal["1d", "2d", "3d"]
DIMENSIONS: tuple[Dimension, ...] = ("1d", "2d", "3d")
#: What ranks: the percolation barrier in so many dimensions, `ranking_ev` or the conductivity, which rest on the one in
#: three.
Ranking = Literal["1d", "2d", "3d", "ranking", "conductivity"]
Row = dict[str, Any]
_FIGURES = {"ranking": "ranking_ev", "conductivity": "log10_conductivity_s_per_cm"}


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A screening, ranked.

    Attributes:
        run: the content of run.json.
        by: what ranks.
        rows: of crystals without their structures, the best first, with `rank`, `formula` reduced, `anion`, `family`.
        failures: rows.
    """

    run: Row
    folder: Path
    by: Ranking
    rows: Sequence[Row]
    failures: Sequence[Row]

    @property
    def dimension(self) -> Dimension:
        """Whose percolation barriers and bottlenecks are shown."""
        return "3d" if self.by in {"ranking", "conductivity"} else self.by  # type: ignore[return-value] # only these

    @property
    def figure(self) -> str:
        """The column that ranks; what has none comes last."""
        return _figure(self.by)


def ranked(folder: Path, by: Ranking) -> Ranked:
    """Rank the crystals of a screening.

    The order: in the model's domain, then the probability that the percolation barrier lies below the threshold, then
    the barrier; crystals that do not percolate come last. By `ranking_ev`: in the model's domain, then it. By
    conductivity: in the domain of its model, then the probability of one above 1e-4 S/cm, then the conductivity; what
    has none comes last.

    Raises:
        ScreeningError: the folder holds no screening.
    """
    run = read_run(folder)
    if run is None:
        raise ScreeningError(f"{folder} holds no screening: there is no run.json. `ionpath screen` writes one.")
    names = [name for name in table_of_folder(folder, "crystals").schema.names if name != "structure"]
    table = table_of_folder(folder, "crystals").to_table(columns=names)
    table = table.take(_order(table, by))
    rows = [_described(rank, row) for rank, row in enumerate(table.to_pylist(), start=1)]
    failures = table_of_folder(folder, "failures").to_table().sort_by([("kind", "ascending"), ("id", "ascending")])
    return Ranked(run=run, folder=folder, by=by, rows=rows, failures=failures.to_pylist())


def _figure(by: Ranking) -> str:
    return _FIGURES.get(by, f"percolation_{by}_ev")


def _order(table: pa.Table, by: Ranking) -> pa.Array:
    figure = _figure(by)
    in_domain, probability = {
        "ranking": ("in_domain_3d", None),
        "conductivity": ("conductivity_in_domain", CHANCE_COLUMN),
    }.get(by, (f"in_domain_{by}", f"probability_{by}"))
    keys = pa.table(
        {
            "has_figure": pc.is_valid(table.column(figure)),
            "in_domain": pc.fill_null(table.column(in_domain), fill_value=False),
            "probability": pa.nulls(len(table), pa.float64()) if probability is None else table.column(probability),
            "figure": table.column(figure),
            "id": table.column("id"),
            "ion": table.column("ion"),
        }
    )
    first = [("has_figure", "descending"), ("in_domain", "descending"), ("probability", "descending")]
    best = ("figure", "descending" if by == "conductivity" else "ascending")
    return pc.sort_indices(keys, sort_keys=[*first, best, ("id", "ascending"), ("ion", "ascending")])


def _described(rank: int, row: Row) -> Row:
    formula = row["formula"]
    return {
        "rank": rank,
        **row,
        "formula": reduced(formula),
        "cell_formula": formula,
        "anion": anion_of(formula),
        "family": family_of(formula, row["ion"], row["space_group"]),
    }


def reduced(formula: str) -> str:
    """A formula without common divisors, such as "LiCoO2"."""
    found: str = Composition(formula).reduced_formula
    return found


def percolating(rows: Iterable[Row], dimension: Dimension) -> list[float]:
    """Percolation barriers of those that have one, eV."""
    return [barrier for row in rows if (barrier := row[f"percolation_{dimension}_ev"]) is not None]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Crystals with something in common.

    Attributes:
        quartiles_ev: of their percolation barriers: 25, 50 and 75 %; None where none percolates.
        below: how many have a barrier below the threshold and are in the model's domain.
    """

    name: str
    count: int
    percolating: int
    quartiles_ev: tuple[float, float, float] | None
    below: int


def grouped(result: Ranked, by: str) -> list[Group]:
    """The crystals by a column, the largest group first."""
    column, threshold_ev = f"percolation_{result.dimension}_ev", result.run["settings"]["threshold_ev"]
    members: dict[str, list[Row]] = {}
    for row in result.rows:
        members.setdefault(row[by], []).append(row)
    groups = []
    for name, rows in members.items():
        barriers = percolating(rows, result.dimension)
        found = np.percentile(barriers, [25, 50, 75]) if barriers else None
        good = [
            row
            for row in rows
            if row[column] is not None and row[column] < threshold_ev and row[f"in_domain_{result.dimension}"]
        ]
        groups.append(
            Group(
                name=name,
                count=len(rows),
                percolating=len(barriers),
                quartiles_ev=None if found is None else (float(found[0]), float(found[1]), float(found[2])),
                below=len(good),
            )
        )
    return sorted(groups, key=lambda group: (-group.count, group.name))


def failures_by_kind(failures: Sequence[Row]) -> list[tuple[str, int, str]]:
    """Kinds of failures: how many, and the words of the first."""
    first: dict[str, str] = {}
    for row in failures:
        first.setdefault(row["kind"], row["words"])
    return [(kind, count, first[kind]) for kind, count in Counter(row["kind"] for row in failures).most_common()]
