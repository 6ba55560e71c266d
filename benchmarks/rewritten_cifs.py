"""Whether a crystal is the same one however its CIF is written: `python -m benchmarks.rewritten_cifs`.

Crystals of the screening set are put into another setting of their space group and written without their symmetry
operations, by the writers of pymatgen, ASE and gemmi, with labels, rows and columns shuffled. Each is read again and
must give the same crystal, and the same barrier to 5 meV, or be refused for a reason that the file gives.

The crystal is compared by the distances around its atoms, which no change of setting alters. The barrier that follows
is computed for every one, or for as many as `--barriers` says: it takes a second or two a crystal.
"""

import argparse
import io
import os
import random
import re
import tarfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.io.cif import write_cif
from gemmi import cif
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifBlock, CifFile, CifWriter
from rich.console import Console

from app.crystals.band import FloatArray
from app.crystals.crystal import Crystal
from app.crystals.elements import SYMBOLS
from app.crystals.geometry.periodic import pairs_of_copies
from app.crystals.hops.percolation import percolation
from app.crystals.hops.search import find_hops
from app.crystals.limits import Limits
from app.crystals.readers import File, read_crystal
from app.errors import InputError
from app.models.predictors.predictor import Predictor
from app.models.registry import Registry
from benchmarks.throughput import STORE

#: Barriers that differ by less are the same, eV: files round.
SAME_BARRIER_EV = 5e-3
#: The most that may be refused.
MOST_REFUSED = 0.02
#: How far symmetry may be off in a crystal that is rewritten, angstrom.
SYMPREC_ANGSTROM = 0.01
#: Distances that are compared, angstrom, and how well they agree.
SEEN_ANGSTROM, SAME_ANGSTROM = 6.0, 0.02
MOST_ATOMS = 100
#: Files are drawn in excess, as some are too large.
DRAWN = 4
_ATOM = re.compile(r"^ +[A-Z][a-z]? +[A-Z][a-z]?\d+ +\d+ ", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Asymmetric:
    """A crystal in some setting: what a CIF lists.

    Attributes:
        parameters: lengths in angstrom and angles in degrees.
        symbols: elements of the atoms of the asymmetric unit.
        frac_coords: of these, shape [n, 3].
        setting: spglib's number of it, from 1 to 530.
        units: formulas in the cell.
        formula: of one, such as "Li2 O1".
    """

    parameters: tuple[float, ...]
    symbols: tuple[str, ...]
    frac_coords: FloatArray
    setting: int
    units: int
    formula: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one crystal.

    Attributes:
        name: of its file.
        writer: of the CIF.
        result: "same", "refused" or "different".
        reason: of a refusal, or what differs.
    """

    name: str
    writer: str
    result: str
    reason: str


def main() -> None:
    """Run from the command line; the status is 1 where a crystal is silently different or too many are refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IONPATH_DATA_DIR", "../shared/data")))
    parser.add_argument("--crystals", type=int, default=500)
    parser.add_argument("--barriers", type=int, help="of how many the barrier is computed; all by default")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    console = Console(width=120)
    predictor = Registry.open(STORE, "cpu", default="default").predictor() if arguments.barriers != 0 else None
    started = time.monotonic()
    outcomes = []
    for number, (name, ion, text) in enumerate(screening_crystals(arguments.data, arguments.crystals, arguments.seed)):
        with_barrier = arguments.barriers is None or number < arguments.barriers
        outcomes.append(rewritten(name, ion, text, arguments.seed, predictor if with_barrier else None))
    counts = Counter(one.result for one in outcomes)
    for one in outcomes:
        if one.result != "same":
            console.print(f"{one.name} by {one.writer}: {one.result}: {one.reason}", markup=False)
    console.print(
        f"{len(outcomes)} crystals rewritten: {counts['same']} the same, {counts['refused']} refused, "
        f"{counts['different']} silently different; {time.monotonic() - started:.0f} s"
    )
    raise SystemExit(counts["different"] > 0 or counts["refused"] > MOST_REFUSED * len(outcomes))


def screening_crystals(
    data: Path, count: int, seed: int, *, most_atoms: int = MOST_ATOMS
) -> Iterator[tuple[str, str, str]]:
    """Names, ions and CIFs of crystals drawn at random."""
    with tarfile.open(data / "screening" / "crystals.tar.xz") as archive:
        members = sorted((one for one in archive.getmembers() if one.isfile()), key=lambda one: one.name)
        chosen = {one.name for one in random.Random(seed).sample(members, min(len(members), DRAWN * count))}
        found = []
        for member in archive:
            if member.name in chosen:
                file = archive.extractfile(member)
                assert file is not None
                found.append((member.name, file.read().decode()))
    taken = 0
    for name, text in sorted(found, key=lambda one: random.Random(f"{seed}/{one[0]}").random()):
        ion, _, file_name = name.removeprefix("./").partition("/")
        if len(_ATOM.findall(text)) <= most_atoms:
            yield file_name, ion, text
            taken += 1
        if taken == count:
            return


def rewritten(name: str, ion: str, text: str, seed: int, predictor: Predictor | None) -> Outcome:
    """Rewrite a crystal, read it again and compare."""
    chance = random.Random(f"{seed}/{name}")
    writer = chance.choice(sorted(WRITERS))
    try:
        original = read_crystal(File(name=name, content=text.encode()), Limits(), ion)
    except InputError as error:  # some of these crystals have atoms on top of each other
        return Outcome(name=name, writer="its source", result="same", reason=error.detail)
    written = WRITERS[writer](in_another_setting(original, chance), chance)
    try:
        again = read_crystal(File(name=name, content=written.encode()), Limits(), ion)
    except InputError as error:
        return Outcome(name=name, writer=writer, result="refused", reason=error.detail)
    if differs := difference(original, again):
        return Outcome(name=name, writer=writer, result="different", reason=differs)
    if predictor is not None:
        before, after = (percolation_barrier_ev(one, ion, predictor) for one in (original, again))
        if (before is None) != (after is None) or (
            before is not None and after is not None and abs(before - after) > SAME_BARRIER_EV
        ):
            return Outcome(name=name, writer=writer, result="different", reason=f"{before} eV and {after} eV")
    return Outcome(name=name, writer=writer, result="same", reason="")


def in_another_setting(crystal: Crystal, chance: random.Random) -> Asymmetric:
    """The same crystal's asymmetric unit in a setting drawn from those of its space group."""
    frac = np.array([site.frac_coords for site in crystal.sites])
    numbers = [SYMBOLS.index(site.species[0][0]) + 1 for site in crystal.sites]
    cell = (crystal.lattice_angstrom, frac, numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        standard = spglib.get_symmetry_dataset(cell, symprec=SYMPREC_ANGSTROM)
        settings = [index for index in range(1, 531) if spglib.get_spacegroup_type(index).number == standard.number]
        setting = chance.choice(settings)
        found = spglib.get_symmetry_dataset(cell, symprec=SYMPREC_ANGSTROM, hall_number=setting)
        operations = spglib.get_symmetry_from_database(setting)
    lattice, places, kinds = found.std_lattice, found.std_positions, found.std_types
    kept: list[int] = []
    for k, place in enumerate(places):
        images = operations["rotations"] @ place + operations["translations"]
        others = [
            j
            for j in kept
            if kinds[j] == kinds[k]
            and (np.linalg.norm((images - places[j] - np.rint(images - places[j])) @ lattice, axis=1) < 0.05).any()
        ]
        if not others:
            kept.append(k)
    structure = Structure(Lattice(lattice), [SYMBOLS[kind - 1] for kind in kinds], places)
    composition, units = structure.composition.get_integer_formula_and_factor()
    reduced = structure.composition / units
    assert composition
    return Asymmetric(
        parameters=tuple(structure.lattice.parameters),
        symbols=tuple(SYMBOLS[kinds[k] - 1] for k in kept),
        frac_coords=np.array(places[kept]),
        setting=setting,
        units=int(units),
        formula=" ".join(f"{symbol}{reduced[symbol]:g}" for symbol in sorted(map(str, reduced))),
    )


# Writers: each makes a CIF of an asymmetric unit, without symmetry operations


def by_pymatgen(unit: Asymmetric, chance: random.Random) -> str:
    """By pymatgen's CifWriter, its symmetry taken out and the name of the setting put in."""
    structure = Structure(Lattice.from_parameters(*unit.parameters), list(unit.symbols), unit.frac_coords)
    block = next(iter(CifWriter(structure, significant_figures=8).cif_file.data.values()))
    data = {key: value for key, value in block.data.items() if "symm" not in key and "formula" not in key}
    data.pop("_atom_site_symmetry_multiplicity", None)
    kind = _kind(unit.setting)
    data["_symmetry_space_group_name_H-M"] = _symbol(unit.setting, chance)
    data["_symmetry_Int_Tables_number"] = str(kind.number)
    data |= {"_chemical_formula_sum": unit.formula, "_cell_formula_units_Z": str(unit.units)}
    columns = [key for key in data if key.startswith("_atom_site_")]
    order = list(range(len(unit.symbols)))
    chance.shuffle(order)
    data |= {key: [data[key][k] for k in order] for key in columns}
    chance.shuffle(columns)
    loops = [columns]
    return str(CifFile({"x": CifBlock(data, loops, "x")}, ""))


def by_ase(unit: Asymmetric, chance: random.Random) -> str:
    """By ASE's writer, its symmetry taken out and the name of the setting put in."""
    atoms = Atoms(list(unit.symbols), scaled_positions=unit.frac_coords, cell=unit.parameters, pbc=True)
    order = list(range(len(atoms)))
    chance.shuffle(order)
    written = io.BytesIO()
    write_cif(written, atoms[order])
    document = cif.read_string(written.getvalue().decode())
    return _named(document, unit, chance)


def by_gemmi(unit: Asymmetric, chance: random.Random) -> str:
    """By gemmi's writer."""
    document = cif.Document()
    block = document.add_new_block("x")
    for key, value in zip(("a", "b", "c"), unit.parameters[:3], strict=True):
        block.set_pair(f"_cell_length_{key}", f"{value:.6f}")
    for key, value in zip(("alpha", "beta", "gamma"), unit.parameters[3:], strict=True):
        block.set_pair(f"_cell_angle_{key}", f"{value:.5f}")
    rows = [
        [f"{symbol}{k}", symbol, *(f"{value:.7f}" for value in place)]
        for k, (symbol, place) in enumerate(zip(unit.symbols, unit.frac_coords, strict=True), start=1)
    ]
    chance.shuffle(rows)
    tags = ["label", "type_symbol", "fract_x", "fract_y", "fract_z"]
    order = list(range(len(tags)))
    chance.shuffle(order)
    loop = block.init_loop("_atom_site_", [tags[k] for k in order])
    for row in rows:
        loop.add_row([cif.quote(row[k]) for k in order])
    return _named(document, unit, chance)


WRITERS: dict[str, Callable[[Asymmetric, random.Random], str]] = {
    "ASE": by_ase,
    "gemmi": by_gemmi,
    "pymatgen": by_pymatgen,
}


def _named(document: Any, unit: Asymmetric, chance: random.Random) -> str:
    """A document's text with a name of the setting in place of symmetry operations."""
    block = document[0]
    for tag in ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz"):
        loop = block.find_loop(tag)
        if loop:
            block.find_loop_item(tag).erase()
    for tag in ("_space_group_name_H-M_alt", "_space_group_IT_number"):
        item = block.find_pair_item(tag)
        if item is not None:
            item.erase()
    if chance.random() < 0.3:
        block.set_pair("_space_group_name_Hall", cif.quote(_kind(unit.setting).hall_symbol))
    else:
        block.set_pair("_space_group_name_H-M_alt", cif.quote(_symbol(unit.setting, chance)))
        block.set_pair("_space_group_IT_number", str(_kind(unit.setting).number))
    block.set_pair("_chemical_formula_sum", cif.quote(unit.formula))
    block.set_pair("_cell_formula_units_Z", str(unit.units))
    return str(document.as_string())


def _kind(setting: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return spglib.get_spacegroup_type(setting)


def _symbol(setting: int, chance: random.Random) -> str:
    """A symbol of a setting: full or short, with what chooses it three times in four."""
    kind = _kind(setting)
    symbol = chance.choice((kind.international_full, kind.international.rpartition("=")[2].strip()))
    if chance.random() < 0.5:
        symbol = symbol.replace("_", "")
    if kind.choice and chance.random() < 0.75:
        symbol += chance.choice((":", " :")) + kind.choice
    return str(symbol)


# Comparison


def difference(one: Crystal, other: Crystal) -> str:
    """What differs between two crystals, whatever their cells; empty where nothing does."""
    first, second = (_surroundings(crystal) for crystal in (one, other))
    if first.keys() != second.keys():
        return f"{one.formula} and {other.formula}"
    for kind, (amount, distances) in first.items():
        other_amount, others = second[kind]
        if abs(amount - other_amount) > 1e-3 * amount:
            return f"{kind}: {amount:.4f} and {other_amount:.4f} atoms in 100 cubic angstrom"
        # the last few may lie within the radius in one of the two alone
        count = int(min(np.count_nonzero(row < SEEN_ANGSTROM - 10 * SAME_ANGSTROM) for row in (distances, others)))
        if np.abs(distances[:count] - others[:count]).max(initial=0.0) > SAME_ANGSTROM:
            return f"distances around {kind}"
    return ""


def _surroundings(crystal: Crystal) -> dict[str, tuple[float, FloatArray]]:
    """Of each element its density and the mean distances from its atoms, by rank."""
    frac = np.array([site.frac_coords for site in crystal.sites])
    symbols = np.array([site.species[0][0] for site in crystal.sites])
    volume = abs(float(np.linalg.det(crystal.lattice_angstrom)))
    one, other, lengths = pairs_of_copies(frac, crystal.lattice_angstrom, SEEN_ANGSTROM)
    found = {}
    for symbol in sorted(set(symbols)):
        atoms = np.flatnonzero(symbols == symbol)
        rows = [np.sort(lengths[one == atom]) for atom in atoms]
        shortest = min(map(len, rows))
        found[str(symbol)] = 100 * len(atoms) / volume, np.mean([row[:shortest] for row in rows], axis=0)
    del other
    return found


def percolation_barrier_ev(crystal: Crystal, ion: str, predictor: Predictor) -> float | None:
    """The lowest barrier at which an ion percolates, as the service answers it."""
    search = find_hops(crystal, ion, max_atoms=Limits().max_atoms)
    bands = [(index, band) for index, hop in enumerate(search.hops) for band in hop.bands if band is not None]
    predictions = predictor.predict([predictor.graph(band) for _, band in bands]) if bands else []
    found = {index: one.barrier_ev for (index, _), one in zip(bands, predictions, strict=True)}
    return percolation(search.all_hops, [found.get(index) for index in range(len(search.hops))]).of(1)


if __name__ == "__main__":
    main()
