"""Partly empty sites of a host are offered to an ion that the file does not have, and to no other."""

import csv
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_crystals import layered_oxide

from app.crystals.crystal import Crystal, Site
from app.crystals.hops.options import HopOptions
from app.crystals.hops.percolation import percolation
from app.crystals.hops.search import HopSearch, find_hops
from app.crystals.limits import Limits
from app.crystals.readers import File, read_crystal
from app.errors import InputError
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.serving.answers.crystal import HopOutcome, bands_of, compose

ONE_ORDERING = HopOptions(max_orderings=1)


def perovskite(first: float, second: float) -> Crystal:
    """A lanthanum titanate with double layers: two A sites of other occupancy, and no lithium."""
    atoms = [
        ("La", first, (0.0, 0.0, 0.0)),
        ("La", second, (0.0, 0.0, 0.5)),
        *(("Ti", 1.0, (0.5, 0.5, z)) for z in (0.257, 0.743)),
        *(("O", 1.0, (x, 0.5 - x, z)) for x in (0.0, 0.5) for z in (0.26, 0.74)),
        *(("O", 1.0, (0.5, 0.5, z)) for z in (0.0, 0.5)),
    ]
    sites = tuple(Site(species=((symbol, share),), frac_coords=place) for symbol, share, place in atoms)
    return Crystal(lattice_angstrom=np.diag([3.87, 3.87, 7.75]), sites=sites)


def passable(found: HopSearch) -> list[float | None]:
    return [None if hop.band is None else 0.5 for hop in found.hops]


def test_empty_shares_are_offered_and_a_warning_names_them() -> None:
    found = find_hops(perovskite(0.75, 0.38), "Li", ONE_ORDERING, max_atoms=2000)
    assert [site.frac_coords for site in found.sites] == [(0.0, 0.0, 0.0), (0.0, 0.0, 0.5)]
    assert {site.occupancy for site in found.sites} == {0.0}
    assert found.mechanism == "dilute"
    warning = next(text for text in found.warnings if "partly empty sites" in text)
    assert "2 partly empty sites of the host (La 0.75 at (0.000, 0.000, 0.000); La 0.38 at" in warning
    assert "outside the domain" in warning
    connected = percolation(found.all_hops, passable(found))
    assert connected.three_d == 0.5
    for hop in found.hops:
        assert hop.band is not None
        assert hop.band.ion not in hop.band.host_species


def test_hops_there_keep_wide_intervals() -> None:
    found = find_hops(perovskite(0.75, 0.38), "Li", ONE_ORDERING, max_atoms=2000)
    one = Prediction(barrier_ev=0.5, quantiles_ev=(0.5,) * len(QUANTILE_LEVELS), in_domain=True, domain_reasons=())
    reasons: list[str] = []

    def doubted(prediction: Prediction, reason: str) -> Prediction:
        reasons.append(reason)
        return replace(prediction, in_domain=False)

    compose(found, {key: HopOutcome(outcome=one, cached=False) for key in bands_of(found)}, doubted)
    assert len(reasons) == len(bands_of(found))
    assert all("both ends of the hop are in empty shares of the host's sites" in reason for reason in reasons)


@pytest.mark.parametrize("share", [0.9, 0.95, 1.0])
def test_a_site_that_is_nearly_full_is_not_offered(share: float) -> None:
    found = find_hops(perovskite(share, 0.4), "Li", ONE_ORDERING, max_atoms=2000)
    assert [site.frac_coords for site in found.sites] == [(0.0, 0.0, 0.5)]


def test_an_empty_share_of_an_anion_is_no_site_of_a_cation() -> None:
    crystal = perovskite(1.0, 1.0)
    sites = tuple(replace(site, species=(("O", 0.8),)) if site.occupancy_of("O") else site for site in crystal.sites)
    with pytest.raises(InputError) as refused:
        find_hops(replace(crystal, sites=sites), "Li", ONE_ORDERING, max_atoms=2000)
    assert refused.value.kind == "no-site"


def test_sites_that_exclude_each_other_are_not_offered() -> None:
    crystal = perovskite(1.0, 1.0)
    halves = tuple(Site(species=(("La", 0.5),), frac_coords=(0.0, 0.0, z)) for z in (0.38, 0.62))  # 1.9 angstrom apart
    sites = (*(site for site in crystal.sites if site.frac_coords != (0.0, 0.0, 0.5)), *halves)
    with pytest.raises(InputError) as refused:
        find_hops(replace(crystal, sites=sites), "Li", ONE_ORDERING, max_atoms=2000)
    assert refused.value.kind == "no-site"


def test_an_ion_that_is_in_the_file_gets_them_only_where_interstitials_are_asked_for() -> None:
    crystal = layered_oxide()
    sites = tuple(replace(site, species=(("Co", 0.7),)) if site.occupancy_of("Co") else site for site in crystal.sites)
    partly = replace(crystal, sites=sites)
    plain, more = (
        find_hops(partly, "Li", HopOptions(interstitials=asked, max_orderings=1, max_hops=3), max_atoms=2000)
        for asked in (False, True)
    )
    assert len(plain.sites) == 3
    shared = [site for site in more.sites if site.shared_with]
    assert [site.shared_with for site in shared] == [(("Co", 0.7),)] * 3


@pytest.mark.needs_data
def test_the_lanthanum_lithium_titanates_are_answered(data_dir: Path) -> None:
    folder = data_dir / "conductivity"
    with (folder / "obelix.csv").open(encoding="utf-8") as rows:
        names = {
            f"{row['id']}.cif"
            for row in csv.DictReader(rows)
            if row["family"] == "perovskites" and "La" in row["composition"] and "Ti" in row["composition"]
        }
    read = 0
    with tarfile.open(folder / "cifs.tar.xz") as archive:
        for member in archive:
            if Path(member.name).name not in names:
                continue
            content = archive.extractfile(member)
            assert content is not None
            crystal = read_crystal(File(name=member.name, content=content.read()), Limits(), "Li")
            found = find_hops(crystal, "Li", ONE_ORDERING, max_atoms=2000)
            connected = percolation(found.all_hops, passable(found))
            assert connected.two_d is not None, member.name
            read += 1
    assert read >= 7
