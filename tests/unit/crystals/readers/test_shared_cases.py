"""Every file of the folder of cases beside the data set, read in place: as its index says, crystals with their hops."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cifs import places

from app.crystals.hops.options import HopOptions
from app.crystals.hops.search import HopSearch, find_hops
from app.crystals.limits import Limits
from app.crystals.readers import read_band_file, read_crystal, read_end_points
from app.crystals.readers.reading import File
from app.errors import InputError

LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a crystal's file is to give: its formula, or the kind of error; and words of a warning, "" for none."""

    formula: str = ""
    kind: str = ""
    says: str = ""
    ion: str = "Li"
    max_hop_angstrom: float = 5.0


CRYSTALS = {
    "XDATCAR-of-a-band": Case(formula="F16 Li15", says="5 configurations"),
    "bracket-title.vasp": Case(formula="F16 Li15"),
    "computed-structure-entry.json": Case(formula="F16 Li16"),
    "cyanide-vacancies.cif": Case(
        formula="C18 Fe3 K4 Mn4 N18", ion="K", max_hop_angstrom=5.5, says="8 of 8 K sites are partly occupied"
    ),
    "data-line-in-text.cif": Case(formula="F4 Li4"),
    "empty-share-of-a-frame-site.cif": Case(formula="La1.13 O6 Ti2", says="La 0.75"),
    "every-site-filled.cif": Case(formula="Li6 Mn4 O8", says="implausibly near each other"),
    "hydride-shares-with-oxide.cif": Case(
        formula="Ba1 H0.6 O2.4 Ti1", ion="H", says="3 of 3 H sites are partly occupied"
    ),
    "hydrogen-without-position.cif": Case(formula="Li2 O1", says="H1 (without coordinates)"),
    "hydroxyl-symbols.cif": Case(formula="B2 F1.8 Mg6 O10.2", says="OH1 was read as O", ion="Mg"),
    "names-with-dots.cif": Case(formula="F4 Li4"),
    "occupancies-lost.cif": Case(kind="atoms-overlap"),
    "occupancy-dot.cif": Case(formula="Co1 Li2 O1", says="a wire in vacuum"),
    "rotating-hydroxide.cif": Case(formula="Cl1 H1.002 Li2.001 O1", says="each was taken as one site"),
    "setting-identity-alone.cif": Case(formula="Cl4 Na4", says="lists x, y, z alone", ion="Na"),
    "setting-p21n-name-and-number.cif": Case(formula="Al4 Cl16 Li4"),
    "setting-p21n-with-operations.cif": Case(formula="Al4 Cl16 Li4"),
    "setting-rhombohedral-axes.cif": Case(formula="Co1 Li1 O2"),
    "setting-second-origin.cif": Case(formula="Na16 O32 S8", ion="Na", says="implausibly near each other: O"),
    "slab-with-vacuum.cif": Case(formula="Co3 Li3 O6", says="not a bulk crystal"),
    "thirds-to-three-digits.cif": Case(formula="Li3 N1", says="onto a symmetry element"),
    "two-phases-standard-first.cif": Case(formula="F4 Li4", says="number 2, sample, was read, as it has Li"),
    "unlocated-water.cif": Case(formula="Al12 Na8 O48 Si12", says="fewer O atoms are listed", ion="Na"),
    "weighted-symbols.cif": Case(formula="Al0.25 Na2 O2 Si0.75", ion="Na", says="a wire in vacuum"),
}
#: Files of bands, and how many images each has.
BANDS = {
    "XDATCAR-of-a-band": 5,
    "band.traj": 5,
    "gzipped-images.zip": 5,
    "initial-and-final-folders.zip": 2,
    "list-of-structures.json": 5,
}
ENDS = ("drift-initial.vasp", "drift-final.vasp", "drift-none-final.vasp")


def file_of(folder: Path, name: str) -> File:
    return File(name=name, content=(folder / name).read_bytes())


def hops_of(folder: Path, name: str) -> HopSearch:
    case = CRYSTALS[name]
    crystal = read_crystal(file_of(folder, name), LIMITS, case.ion)
    assert case.kind or crystal.formula == case.formula
    return find_hops(crystal, case.ion, HopOptions(max_hop_angstrom=case.max_hop_angstrom), max_atoms=2000)


def test_every_case_is_tried(case_dir: Path) -> None:
    assert {path.name for path in case_dir.iterdir()} == {*CRYSTALS, *BANDS, *ENDS, "INDEX.md"}


@pytest.mark.parametrize("name", CRYSTALS)
def test_a_crystal_is_read_as_it_was_meant_or_refused(case_dir: Path, name: str) -> None:
    case = CRYSTALS[name]
    if case.kind:
        with pytest.raises(InputError) as refused:
            hops_of(case_dir, name)
        assert refused.value.kind == case.kind
        return
    search = hops_of(case_dir, name)
    assert search.hops
    assert case.says in " ".join(search.warnings)
    assert case.says or not search.warnings


def test_a_setting_by_its_name_is_the_one_by_its_operations(case_dir: Path) -> None:
    named, listed = (
        read_crystal(file_of(case_dir, f"setting-p21n-{how}.cif"), LIMITS, "Li")
        for how in ("name-and-number", "with-operations")
    )
    assert places(named) == places(listed)


def test_hydrogen_of_a_hydroxide_is_beside_its_oxygen(case_dir: Path) -> None:
    search = hops_of(case_dir, "rotating-hydroxide.cif")
    lattices = search.lattices
    oxygen, hydrogen = (
        lattices.host_frac_coords[[any(symbol == element for symbol, _ in one) for one in lattices.host_contents]]
        for element in ("O", "H")
    )
    apart = hydrogen[:, None] - oxygen[None]
    lengths = np.linalg.norm((apart - np.round(apart)) @ lattices.lattice_angstrom, axis=2)
    assert lengths.min() == pytest.approx(0.9, abs=0.1)


@pytest.mark.parametrize("name", BANDS)
def test_a_band_has_all_its_images(case_dir: Path, name: str) -> None:
    """They are all files of one band."""
    band, first = (read_band_file(file_of(case_dir, one), LIMITS).band for one in (name, next(iter(BANDS))))
    assert (band.ion, len(band.image_frac_coords), len(band.host_species)) == ("Li", BANDS[name], 30)
    images = first.image_frac_coords if BANDS[name] > 2 else first.image_frac_coords[[0, -1]]
    np.testing.assert_allclose(band.image_frac_coords, images, atol=1e-5)
    assert band.host_species == first.host_species
    np.testing.assert_allclose(band.host_frac_coords, first.host_frac_coords, atol=1e-5)


def test_end_points_that_drift_are_those_that_do_not(case_dir: Path) -> None:
    initial, drifted, still = (file_of(case_dir, name) for name in ENDS)
    with_drift, without = (read_end_points(initial, final, LIMITS, ion="Li") for final in (drifted, still))
    assert "displaced together by 0.80 angstrom" in " ".join(with_drift.warnings)
    assert not without.warnings
    np.testing.assert_allclose(with_drift.band.image_frac_coords, without.band.image_frac_coords, atol=1e-3)
