"""Where known conductors stand in a screening, and which crystals come first.

    python -m benchmarks.known_conductors DIR --ion Li

prints, for one ion of the screening in DIR, the known conductors with their ranks among its crystals by `ranking_ev`,
by the conductivity (lithium) and by the 3d barrier, and the twenty first by each as `ionpath report` ranks them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pymatgen.core import Composition

from app.screening.report.ranking import Ranking, Row, ranked

#: Formulas of conductors that were made and measured, or are the parent of some; by the ion.
KNOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "Li": {
        "garnet": ("Li7La3Zr2O12", "Li7La3Hf2O12", "Li5La3Ta2O12", "Li5La3Nb2O12", "Li3Nd3Te2O12"),
        "argyrodite": ("Li7PS6", "Li6PS5Cl", "Li6PS5Br", "Li6PS5I"),
        "NASICON": ("LiTi2(PO4)3", "LiGe2(PO4)3", "LiZr2(PO4)3", "LiHf2(PO4)3", "LiSn2(PO4)3"),
        "LGPS": ("Li10GeP2S12", "Li10SiP2S12", "Li10SnP2S12"),
        "thiophosphate": ("Li3PS4", "Li7P3S11"),
        "Li3N": ("Li3N",),
        "halide": ("Li3YCl6", "Li3InCl6", "Li3ScCl6"),
        "spinel": ("LiMn2O4", "LiTi2O4", "Li4Ti5O12"),
        "poor": ("LiI", "Li2S", "LiAlO2", "Li4SiO4"),
    },
    "Na": {
        "NASICON": ("Na3Zr2Si2PO12", "Na3Sc2(PO4)3", "NaZr2(PO4)3", "NaTi2(PO4)3"),
        "thio": ("Na3PS4", "Na3PSe4", "Na3SbS4"),
        "poor": ("NaCl",),
    },
    "Mg": {"spinel": ("MgSc2Se4", "MgIn2Se4", "MgTi2S4", "MgMn2O4")},
    "Ca": {"spinel or post-spinel": ("CaMn2O4",)},
    "Zn": {"spinel": ("ZnMn2O4",)},
}
FIRST = 20


def rows_of(folder: Path, by: Ranking, ion: str) -> list[Row]:
    """The rows of an ion, the best first, with `rank` among them."""
    rows = [row for row in ranked(folder, by).rows if row["ion"] == ion]
    return [{**row, "rank": rank} for rank, row in enumerate(rows, start=1)]


def known_table(ranks: dict[str, dict[str, Row]], ion: str, columns: Sequence[str]) -> None:
    """Print the known conductors: of each formula the entry that comes first by the first column."""
    print(f"| family | formula | entry | {' | '.join(columns)} |\n|{'---|' * (3 + len(columns))}")
    for family, formulas in KNOWN.get(ion, {}).items():
        for formula in formulas:
            name = Composition(formula).reduced_formula
            found = [row for row in ranks[columns[0]].values() if row["formula"] == name]
            if found:
                best = min(found, key=lambda row: row["rank"])
                cells = [_cell(by, ranks[by][best["id"]]) for by in columns]
                print(f"| {family} | {formula} | {best['id']} | {' | '.join(cells)} |")


def _cell(by: str, row: Row) -> str:
    name = {"ranking": "ranking_ev", "conductivity": "log10_conductivity_s_per_cm"}.get(by, f"percolation_{by}_ev")
    return f"{row['rank']} ({'never' if row[name] is None else f'{row[name]:.2f}'})"


def first_table(rows: Sequence[Row]) -> None:
    """Print which crystals come first."""
    print("| rank | formula | family | entry | 3d, eV | ranking_ev | log10 of S/cm |\n|---|---|---|---|---|---|---|")
    for row in rows[:FIRST]:
        figures = (row["percolation_3d_ev"], row["ranking_ev"], row["log10_conductivity_s_per_cm"])
        shown = " | ".join("" if one is None else f"{one:.2f}" for one in figures)
        print(f"| {row['rank']} | {row['formula']} | {row['family']} | {row['id']} | {shown} |")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the output of ionpath screen")
    parser.add_argument("--ion", default="Li")
    asked = parser.parse_args()
    columns: tuple[Ranking, ...] = ("ranking", "conductivity", "3d") if asked.ion == "Li" else ("ranking", "3d")
    rows = {by: rows_of(asked.folder, by, asked.ion) for by in columns}
    print(f"{len(rows['3d'])} crystals with {asked.ion}; rank (figure)\n")
    known_table({by: {row["id"]: row for row in some} for by, some in rows.items()}, asked.ion, columns)
    for by, some in rows.items():
        print(f"\nFirst by {by}:\n")
        first_table(some)


if __name__ == "__main__":
    main()
