"""Slabs, wires and molecules are recognised by geometry, their surface hops excluded; bulk crystals are left alone."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import orjson
import pytest
from composed import CRYSTALS
from made_crystals import crystal_of, layered_oxide, repeated, rock_salt

from app.crystals.band import Band
from app.crystals.crystal import Crystal
from app.crystals.geometry.vacuum import Vacuum, find_vacuum
from app.crystals.hops.options import HopOptions
from app.crystals.hops.search import find_hops
from app.crystals.limits import Limits
from app.crystals.readers import File, read_crystal
from app.crystals.validation import band_vacuum, check_contacts
from app.crystals.writers import band_to_json
from app.errors import InputError
from app.serving.reading.upload_reader import ReadOptions, read_upload
from app.serving.reading.uploads import JsonBandUpload
from benchmarks.rewritten_cifs import screening_crystals

TEN = sorted(CRYSTALS)[:10]


def vacuum_of(crystal: Crystal) -> Vacuum | None:
    return find_vacuum(np.array([site.frac_coords for site in crystal.sites]), crystal.lattice_angstrom)


def cut(crystal: Crystal, axes: tuple[int, ...], vacuum_angstrom: float, *, shift: float = 0.4) -> Crystal:
    """A crystal with empty space between the outermost atoms along some axes, the atoms across the cell's faces."""
    lattice = np.array(crystal.lattice_angstrom)
    frac = np.array([site.frac_coords for site in crystal.sites])
    for axis in axes:
        normal = np.linalg.inv(lattice)[:, axis]
        spacing = 1.0 / np.linalg.norm(normal)
        frac[:, axis] -= frac[:, axis].min()
        longer = (frac[:, axis].max() * spacing + vacuum_angstrom) / spacing
        lattice[axis] *= longer
        frac[:, axis] = frac[:, axis] / longer + shift
    sites = tuple(
        replace(site, frac_coords=(float(x), float(y), float(z)))
        for site, (x, y, z) in zip(crystal.sites, frac, strict=True)
    )
    return replace(crystal, lattice_angstrom=lattice, sites=sites)


@pytest.mark.parametrize("vacuum_angstrom", [6.0, 10.0, 20.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", TEN)
def test_a_slab_is_recognised_along_every_axis(name: str, axis: int, vacuum_angstrom: float) -> None:
    slab = cut(CRYSTALS[name][1], (axis,), vacuum_angstrom)
    found = vacuum_of(slab)
    assert found is not None
    assert found.shape == "slab"
    assert found.gaps[0].width_angstrom == pytest.approx(vacuum_angstrom)
    assert f"a gap of {vacuum_angstrom:.1f} angstrom without atoms, so it is a slab" in check_contacts(slab, "x")[-1]
    steps = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]])  # the same lattice in other vectors
    skewed = find_vacuum(
        np.array([site.frac_coords for site in slab.sites]) @ np.linalg.inv(steps), steps @ slab.lattice_angstrom
    )
    assert skewed is not None
    assert skewed.gaps[0].width_angstrom == pytest.approx(vacuum_angstrom)


@pytest.mark.parametrize("name", sorted(CRYSTALS))
def test_a_bulk_crystal_has_no_vacuum(name: str) -> None:
    assert vacuum_of(CRYSTALS[name][1]) is None
    assert vacuum_of(repeated(CRYSTALS[name][1], (3, 1, 2))) is None


def test_wires_and_molecules_are_named() -> None:
    shapes = {axes: vacuum_of(cut(layered_oxide(), axes, 8.0)) for axes in ((0,), (0, 1), (0, 1, 2))}
    assert [None if found is None else found.shape for found in shapes.values()] == ["slab", "wire", "molecule"]


@pytest.mark.needs_data
def test_hardly_any_bulk_crystal_is_called_a_slab(data_dir: Path) -> None:
    called, read = [], 0
    for name, _, text in screening_crystals(data_dir, 300, seed=19, most_atoms=200):
        crystal = read_crystal(File(name=name, content=text.encode()), Limits())
        read += 1
        if vacuum_of(crystal) is not None:
            called.append(name)
    assert read == 300
    assert len(called) <= 0.002 * read


def test_hops_at_the_surface_are_excluded_and_the_others_are_doubted() -> None:
    slab = cut(repeated(layered_oxide(), (1, 1, 2)), (2,), 15.0)
    found = find_hops(slab, "Li", max_atoms=2000)
    excluded = [
        str(hop.excluded_because) for hop in found.hops if "at the surface of a slab" in str(hop.excluded_because)
    ]
    assert excluded
    assert all("angstrom below the outermost atoms" in reason for reason in excluded)
    within = [hop for hop in found.hops if hop.band is not None]
    assert within
    assert all("slab with a gap of 15.0 angstrom of vacuum" in str(hop.doubt) for hop in within)
    vacuum = vacuum_of(slab)
    assert vacuum is not None
    depths = vacuum.depths_angstrom(np.array([site.frac_coords for site in found.sites]))
    for hop in within:
        assert min(depths[hop.from_site], depths[hop.to_site]) >= 3.0
    bulk = find_hops(layered_oxide(), "Li", max_atoms=2000)
    assert all(hop.doubt is None for hop in bulk.hops)


def test_a_sparse_cell_is_no_slab() -> None:
    assert vacuum_of(crystal_of(np.eye(3) * 8.2, [("K", (0.0, 0.0, 0.0)), ("I", (0.5, 0.5, 0.5))])) is None


def test_an_ion_in_the_vacuum_is_outside() -> None:
    sheet = crystal_of(
        np.diag([4.0, 4.0, 30.0]), [("C", (0.0, 0.0, 0.5)), ("C", (0.5, 0.5, 0.5)), ("C", (0.5, 0.0, 0.5))]
    )
    vacuum = vacuum_of(sheet)
    assert vacuum is not None
    assert vacuum.depths_angstrom(np.array([[0.0, 0.0, 0.6], [0.0, 0.0, 0.4], [0.0, 0.0, 0.5]])) == pytest.approx(
        [-3.0, -3.0, 0.0], abs=1e-6
    )


@pytest.mark.parametrize("mechanism", ["auto", "vacancy", "dilute"])
def test_a_file_of_ion_sites_alone_is_refused(mechanism: Literal["auto", "vacancy", "dilute"]) -> None:
    alone = rock_salt(other="Li")
    with pytest.raises(InputError, match="no host that it could hop through") as refused:
        find_hops(alone, "Li", HopOptions(mechanism=mechanism), max_atoms=2000)
    assert (refused.value.kind, refused.value.status) == ("no-host", 422)
    assert "ion sites alone" in str(refused.value.expected)


def test_a_band_in_a_slab_is_warned_of() -> None:
    slab = cut(repeated(rock_salt(), (2, 2, 2)), (2,), 12.0)
    ions = [site for site in slab.sites if site.species[0][0] == "Li"]
    host = [site for site in slab.sites if site not in ions[:2]]
    band = Band(
        lattice_angstrom=slab.lattice_angstrom,
        host_species=tuple(site.species[0][0] for site in host),
        host_frac_coords=np.array([site.frac_coords for site in host]),
        ion="Li",
        image_frac_coords=np.array([site.frac_coords for site in ions[:2]]),
    )
    assert "slab with a gap of 12.0 angstrom" in str(band_vacuum(band))
    upload = JsonBandUpload(payload=orjson.dumps(band_to_json(band)))
    read = read_upload(upload, ReadOptions(limits=Limits()))
    assert read.doubt == band_vacuum(band)
    assert read.warnings[-1] == f"The band is not in a bulk crystal: {read.doubt}."
