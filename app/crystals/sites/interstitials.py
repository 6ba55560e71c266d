"""Interstitial sites: the largest empty spheres of a crystal where an ion has a bond valence sum near its charge."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import numpy as np
from scipy.spatial import QhullError, Voronoi, cKDTree

from app.crystals.band import FloatArray
from app.crystals.geometry.periodic import cell_heights_angstrom, near_pairs, shortest_vectors
from app.crystals.geometry.reduction import reduced_lattice
from app.crystals.sites.ion_sites import IonSite, Sublattices
from app.crystals.sites.oxidation import guess_oxidation_states, usual_charge
from app.crystals.sites.symmetry import Symmetry, find_symmetry
from app.errors import InputError

#: Least distance of an ion to an atom: in oxides the nearest oxygen of Li is about 1.8 angstrom away.
LEAST_RADIUS_ANGSTROM = 1.6
#: Least distance between cations: sites that share a face with an occupied one are left out.
LEAST_CATION_ANGSTROM = 2.2
#: Sites nearer than this are merged in the middle; the crystal's own sites exclude others within it.
APART_ANGSTROM = 1.2
#: Accepted bond valence sums as shares of the ion's charge: wide, since the host is not relaxed around the ion.
LEAST_VALENCE, MOST_VALENCE = 0.3, 2.2
#: Largest length of a bond.
BOND_ANGSTROM = 5.0
#: Softness of bond valences and scale of distances, for pymatgen's parameters.
SOFTNESS_ANGSTROM, DISTANCE_SCALE = 0.31, 1.015
#: Maximum number of symmetry-distinct sites.
MOST_DISTINCT = 12
MOST_SITES = 400
#: Distance around the cell within which atoms limit the largest empty sphere in it.
REACH_ANGSTROM = 10.0
#: The same where no empty sphere is larger, as in most crystals, and the spacing of the grid that shows it.
SMALL_REACH_ANGSTROM, GRID_ANGSTROM = 6.0, 1.5
SAME_PLACE_ANGSTROM = 0.1
#: Corners this near to one that was tried, or to a copy of it, are skipped.
TRIED_ANGSTROM = 0.3
#: Number of steps towards the symmetry elements near a corner; each includes more of the copies around it.
MOST_STEPS = 20
ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class _Surroundings:
    """The atoms of a cell, with all periodic copies within REACH_ANGSTROM of it.

    Attributes:
        basis_angstrom: the reduced cell; rows are its vectors, shape [3, 3].
        steps: the same as whole numbers of the crystal's vectors, shape [3, 3].
        points_angstrom: all atoms, shape [n, 3].
        charges: their oxidation states, positive for the sign of the ion's; 0 where unknown, shape [n].
        bond_angstrom: the length of a bond of valence one between the ion and each, shape [n].
        valence: the ion's charge.
    """

    basis_angstrom: FloatArray
    steps: FloatArray
    points_angstrom: FloatArray
    charges: FloatArray
    bond_angstrom: FloatArray
    valence: float

    @cached_property
    def tree(self) -> Any:
        """A tree of the atoms."""
        return cKDTree(self.points_angstrom)

    @property
    def knows_charges(self) -> bool:
        """Whether bond valences can be computed."""
        return bool((self.charges < 0).any())

    def takes(self, place: FloatArray) -> bool:
        """Whether an ion fits at a position (fractional, in the crystal's vectors), bond valence sum included."""
        frac = place @ np.linalg.inv(self.steps)
        here = (frac - np.floor(frac)) @ self.basis_angstrom
        near = self.tree.query_ball_point(here, BOND_ANGSTROM)
        lengths = np.linalg.norm(self.points_angstrom[near] - here, axis=1)
        if lengths.min(initial=np.inf) < LEAST_RADIUS_ANGSTROM:
            return False
        charges = self.charges[near]
        if lengths[charges > 0].min(initial=np.inf) < LEAST_CATION_ANGSTROM:
            return False
        if not self.knows_charges:
            return True
        bonds = np.exp((self.bond_angstrom[near] - lengths * DISTANCE_SCALE) / SOFTNESS_ANGSTROM)[charges < 0]
        return LEAST_VALENCE <= float(bonds.sum()) / self.valence <= MOST_VALENCE


def with_interstitials(lattices: Sublattices) -> Sublattices:
    """Add interstitial sites of the ion to its sites, each with occupancy 0 and its symmetry-equivalent copies.

    They are corners of the Voronoi polyhedra of all atoms, moved onto a symmetry element nearby, largest sphere first.

    Raises:
        InputError: the crystal has no site of the ion and none was found ("no-site").
    """
    around = _surroundings(lattices)
    symmetry = find_symmetry(lattices)
    lattice, taken = lattices.lattice_angstrom, lattices.site_frac_coords
    corners, widest_angstrom = _corners(around)
    tried = np.empty((0, 3))
    found: list[FloatArray] = []
    distinct = 0
    for corner in corners:
        if len(tried) and shortest_vectors(tried - corner, lattice).lengths_angstrom.min() < TRIED_ANGSTROM:
            continue
        tried = np.vstack([tried, _images(corner, symmetry)])
        orbit = _orbit(corner, symmetry, lattice)
        if orbit is None or not around.takes(orbit[0]) or len(found) + len(orbit) > MOST_SITES:
            continue
        tried = np.vstack([tried, orbit])
        others = np.vstack([taken, *found])
        if len(others) and len(near_pairs(orbit, others, lattice, APART_ANGSTROM)[0]):
            continue
        found.extend(orbit)
        distinct += 1
        if distinct == MOST_DISTINCT:
            break
    if not found and not lattices.sites:
        raise _no_site(lattices, widest_angstrom)
    return replace(
        lattices,
        sites=(*lattices.sites, *(_site(len(taken) + k, place) for k, place in enumerate(found))),
        warnings=(*lattices.warnings, *_warnings(lattices, around, found, distinct)),
    )


def _site(index: int, place: FloatArray) -> IonSite:
    x, y, z = (float(value) % 1.0 for value in np.round(place, 9))
    return IonSite(index=index, frac_coords=(x, y, z), occupancy=0.0)


def _surroundings(lattices: Sublattices) -> _Surroundings:
    """Collect the atoms; sites of the ion count as atoms, and shared sites as their main element."""
    shares = [site.shared_with if site.is_interstitial else () for site in lattices.sites]
    own = [share or ((lattices.ion, site.occupancy),) for share, site in zip(shares, lattices.sites, strict=True)]
    contents = [*lattices.host_contents, *own]
    atoms = np.vstack([lattices.host_frac_coords, lattices.site_frac_coords])
    states = guess_oxidation_states(lattices.amounts) or {}
    symbols = [max(one, key=lambda pair: pair[1])[0] for one in contents]
    valence = usual_charge(lattices.ion)
    charges = np.array([states.get(symbol, 0) for symbol in symbols], dtype=np.float64) * np.sign(valence)
    # ions of the same element do not block, as only one of two near sites is kept; the host's atoms on a site do
    charges[len(lattices.host_contents) :] *= [bool(share) for share in shares]
    lengths = bond_lengths(lattices.ion, symbols)
    basis, steps = reduced_lattice(lattices.lattice_angstrom)
    in_reduced = atoms @ np.linalg.inv(steps)
    margin = REACH_ANGSTROM / cell_heights_angstrom(basis)
    cells = [np.arange(-n, n + 1) for n in np.ceil(margin).astype(int)]
    shifts = np.stack(np.meshgrid(*cells, indexing="ij"), axis=-1).reshape(-1, 3)
    images = ((in_reduced - np.floor(in_reduced))[None] + shifts[:, None]).reshape(-1, 3)
    near = ((images > -margin) & (images < 1.0 + margin)).all(axis=1)
    return _Surroundings(
        basis_angstrom=basis,
        steps=np.asarray(steps, dtype=np.float64),
        points_angstrom=images[near] @ basis,
        charges=np.tile(charges, len(shifts))[near],
        bond_angstrom=np.tile([lengths[symbol] for symbol in symbols], len(shifts))[near],
        valence=abs(valence),
    )


def bond_lengths(ion: str, symbols: Sequence[str]) -> Mapping[str, float]:
    """Lengths of bonds of valence one, angstrom (O'Keeffe and Brese, J. Am. Chem. Soc. 113, 3226, 1991)."""
    parameters = _bond_valence_radii()
    lengths = {}
    for symbol in set(symbols):
        if ion not in parameters or symbol not in parameters:
            lengths[symbol] = 0.0
            continue
        (radius, softness), (other, other_softness) = parameters[ion], parameters[symbol]
        shortening = radius * other * (np.sqrt(softness) - np.sqrt(other_softness)) ** 2
        lengths[symbol] = float(radius + other - shortening / (softness * radius + other_softness * other))
    return lengths


@cache
def _bond_valence_radii() -> Mapping[str, tuple[float, float]]:
    """Radius (angstrom) and softness of each element, as pymatgen has them, which takes a second to import."""
    content = files("app.crystals.sites").joinpath("bond_valence_radii.json").read_text(encoding="utf-8")
    return {symbol: (radius, softness) for symbol, (radius, softness) in json.loads(content).items()}


def _corners(around: _Surroundings) -> tuple[FloatArray, float]:
    """Corners of the atoms' Voronoi polyhedra in the cell, the one farthest from all atoms first.

    Returns:
        fractional, in the crystal's vectors, shape [n, 3]; and the largest distance to the nearest atom, angstrom.
    """
    try:
        corners = Voronoi(_limiting(around)).vertices
    except QhullError:  # coplanar or collinear atoms have no corners
        return np.empty((0, 3)), 0.0
    frac = corners @ np.linalg.inv(around.basis_angstrom)
    inside = frac[((frac > -ROUNDING) & (frac < 1.0 - ROUNDING)).all(axis=1)]
    radii = np.round(around.tree.query(inside @ around.basis_angstrom)[0], 2)
    wide = radii >= LEAST_RADIUS_ANGSTROM
    # rounded, so that the order of equal corners does not depend on the last bits of their coordinates
    order = np.lexsort([*np.round(inside[wide], 4).T[::-1], -radii[wide]])
    return np.asarray(inside[wide][order] @ around.steps), float(radii.max(initial=0.0))


def _limiting(around: _Surroundings) -> FloatArray:
    """The atoms that limit the empty spheres centred in the cell, shape [n, 3], angstrom.

    A sphere smaller than SMALL_REACH_ANGSTROM is limited by atoms as near to the cell: a third of all, in a third of
    the time. None in the cell is larger where no place of a grid is that far from an atom.
    """
    heights = cell_heights_angstrom(around.basis_angstrom)
    steps = np.ceil(heights / GRID_ANGSTROM).astype(int)
    if steps.prod() > len(around.points_angstrom):
        return around.points_angstrom  # a large or empty cell: the grid would take longer than it saves
    grid = np.stack(np.meshgrid(*[np.arange(n) / n for n in steps], indexing="ij"), axis=-1).reshape(-1, 3)
    # no place is farther from the grid's nearest than half of the way through one of its cells
    slack = 0.5 * np.linalg.norm(around.basis_angstrom, axis=1) @ (1.0 / steps)
    farthest = around.tree.query(grid @ around.basis_angstrom)[0].max(initial=0.0)
    if farthest + slack >= SMALL_REACH_ANGSTROM:
        return around.points_angstrom
    frac = around.points_angstrom @ np.linalg.inv(around.basis_angstrom)
    margin = SMALL_REACH_ANGSTROM / heights
    return around.points_angstrom[((frac > -margin) & (frac < 1.0 + margin)).all(axis=1)]


def _orbit(corner: FloatArray, symmetry: Symmetry, lattice_angstrom: FloatArray) -> FloatArray | None:
    """A corner moved onto the symmetry elements near it, and its copies in the cell; None where copies are too near."""
    place = corner
    for _ in range(MOST_STEPS):
        vectors = _images(place, symmetry) - place
        shortest = shortest_vectors(vectors, lattice_angstrom)
        near = shortest.lengths_angstrom < APART_ANGSTROM
        step = (vectors + shortest.offsets)[near].mean(axis=0)
        place = place + step
        if np.abs(step).max() < ROUNDING:
            break
    images = _images(place, symmetry)
    pairs, lengths = near_pairs(images, None, lattice_angstrom, APART_ANGSTROM)
    if (lengths > SAME_PLACE_ANGSTROM).any():
        return None
    copies = np.zeros(len(images), dtype=bool)
    copies[pairs.max(axis=1)] = True
    return np.asarray(images[~copies] % 1.0)


def _images(place: FloatArray, symmetry: Symmetry) -> FloatArray:
    """Images of a position under all operations, the position itself included, shape [n, 3]."""
    # A rotation is listed once for every pure translation: one of them is enough, translations are added below.
    _, once = np.unique(symmetry.rotations.reshape(-1, 9), axis=0, return_index=True)
    turned = place @ symmetry.rotations[once].transpose(0, 2, 1) + symmetry.translations[once]
    return np.asarray((turned[:, None] + symmetry.pure_translations[None]).reshape(-1, 3))


def _warnings(lattices: Sublattices, around: _Surroundings, found: list[FloatArray], distinct: int) -> tuple[str, ...]:
    ion = lattices.ion
    if not found:
        has_own = any(not site.is_interstitial for site in lattices.sites)
        return (f"No interstitial site of {ion} was found in addition to its own sites.",) if has_own else ()
    checked = (
        f", bond valences there from {LEAST_VALENCE:g} to {MOST_VALENCE:g} of its charge"
        if around.knows_charges
        else "; oxidation states could not be guessed, so bond valences were not checked"
    )
    count = len(found)
    what = f"{count} interstitial sites of {ion}, {distinct} of them distinct, were" if count > 1 else _ONE.format(ion)
    sentence = (
        f"{what} found by geometry (the largest empty spheres{checked}); whether the ion is stable there was not "
        "computed, so hops that end there are outside the domain and have wide intervals."
    )
    return (sentence,)


_ONE = "1 interstitial site of {} was"


def _no_site(lattices: Sublattices, widest_angstrom: float) -> InputError:
    ion = lattices.ion
    reason = (
        f"its widest void is {widest_angstrom:.2f} angstrom from the nearest atoms, and none has room for {ion} with a "
        f"bond valence near its charge"
        if widest_angstrom >= LEAST_RADIUS_ANGSTROM
        else f"no void is {LEAST_RADIUS_ANGSTROM:g} angstrom from its nearest atoms"
    )
    present = ", ".join(sorted({symbol for contents in lattices.host_contents for symbol, _ in contents}))
    return InputError(
        f"There is no {ion} in this crystal and no interstitial site for it: {reason}. Its elements are {present}.",
        kind="no-site",
        where="ion",
        expected=f"an ion of the crystal, or a crystal with larger voids for {ion}",
    )
