"""The input of two layers of a potential at the migrating ion: the ion's bonds and their neighbourhoods."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from app.crystals.band import MODEL_IMAGE_COUNT, Band, FloatArray, IntArray
from app.crystals.geometry.periodic import copies_near_cell
from app.crystals.hops.surroundings import PathSurroundings, at_ends, path_surroundings
from app.models.features.tables import atomic_number
from app.models.graphs.cutoffs import ATOM_CUTOFF_ANGSTROM, BOND_CUTOFF_ANGSTROM

#: Distances are at least this, so that the Bessel functions of an atom on the line stay finite.
SAME_PLACE_ANGSTROM = 0.3
_ROUNDING_ANGSTROM = 1e-6
#: Hosts whose bonds are kept: all hops of a crystal share one.
_HOSTS_KEPT = 32


@dataclass(frozen=True, kw_only=True)
class IonBonds:
    """The ion's images and the host atoms around them.

    The host is infinite and contains one moving ion; for its copies see path_surroundings.

    Attributes:
        ion_numbers: atomic number of the ion, once for every image, shape [n_images].
        host_numbers: of the atoms within six angstrom of a path, shape [n_host].
        source_numbers: of the host's atoms, copies of which these are bound to, shape [n_source].
        host_target, host_source: bonds among them, from a host atom to a source, target by target, shape [n_bonds].
        host_vector: along each, shape [n_bonds, 3], angstrom.
        ion_image, ion_host: the ion's bonds at every image, shape [n_ion_bonds].
        ion_vector: from the ion to the host atom, shape [n_ion_bonds, 3], angstrom.
        short_ion: which of the ion's bonds are short, shape [n_short_ion].
        short_host: which of the hosts' bonds are short and meet a short one of the ion's, shape [n_short_host].
        at_ion_one, at_ion_other: pairs of the ion's short bonds, as places in short_ion, shape [n_at_ion].
        at_host_one, at_host_other: a short bond of the ion and one of its host atom, as places in short_ion and
            short_host, shape [n_at_host].
    """

    ion_numbers: IntArray
    host_numbers: IntArray
    source_numbers: IntArray
    host_target: IntArray
    host_source: IntArray
    host_vector: NDArray[np.float32]
    ion_image: IntArray
    ion_host: IntArray
    ion_vector: NDArray[np.float32]
    short_ion: IntArray
    short_host: IntArray
    at_ion_one: IntArray
    at_ion_other: IntArray
    at_host_one: IntArray
    at_host_other: IntArray

    @property
    def ion_count(self) -> int:
        """The number of bonds and pairs of bonds of the ion at all images."""
        return len(self.ion_image) + len(self.at_ion_one) + len(self.at_host_one)

    @property
    def element_pairs(self) -> int:
        """The number of distinct pairs of elements in the host's bonds."""
        elements = 1 + int(self.source_numbers.max(initial=0))
        pairs = self.host_numbers[self.host_target] * elements + self.source_numbers[self.host_source]
        return int(np.count_nonzero(np.bincount(pairs)))

    @property
    def closest_approach_angstrom(self) -> float:
        """The shortest of the ion's bonds at the five images of the straight path, angstrom."""
        straight = self.ion_vector[self.ion_image < MODEL_IMAGE_COUNT]
        return float(np.sqrt(np.square(straight).sum(axis=1).min(initial=np.inf)))


def ion_bonds(band: Band) -> IonBonds:
    """The bonds of a band's five straight images."""
    return bonds_in(path_surroundings(band, ATOM_CUTOFF_ANGSTROM))


def bonds_in(around: PathSurroundings) -> IonBonds:
    """The same from the surroundings within six angstrom of the path, or more."""
    band, images, near = around.band, around.images, around.near
    numbers = np.array([atomic_number(symbol) for symbol in band.host_species], dtype=np.int64)
    host = np.flatnonzero(near.path_distance < ATOM_CUTOFF_ANGSTROM)
    positions, cell_atom = near.positions[host], near.host_index[host]
    all_bonds = _host_bonds(band.lattice_angstrom.tobytes(), band.host_frac_coords.tobytes())
    target, source, host_vector = all_bonds.of(cell_atom)
    # the host has both sites of the hop filled, and here the ion is on its way between them
    is_ion = np.zeros(len(numbers), dtype=bool)
    is_ion[around.ion_index] = True
    own = np.flatnonzero(is_ion[source])
    straight = images[:MODEL_IMAGE_COUNT]
    kept = np.delete(np.arange(len(target)), own[at_ends(positions[target[own]] + host_vector[own], straight)])
    target, source, host_vector = target.take(kept), source.take(kept), host_vector.take(kept, axis=0)
    image, neighbour, ion_vector = _bonds(images, positions)
    short_ion = np.flatnonzero(_lengths(ion_vector) < BOND_CUTOFF_ANGSTROM)
    meets_ion = np.zeros(len(host), dtype=bool)
    meets_ion[neighbour[short_ion]] = True
    short_host = np.flatnonzero(meets_ion[target])
    short_host = short_host[_lengths(host_vector[short_host]) < BOND_CUTOFF_ANGSTROM]
    at_ion = _meeting(image[short_ion], image[short_ion], len(images))
    at_ion = at_ion[:, at_ion[0] != at_ion[1]]
    at_host = _meeting(neighbour[short_ion], target[short_host], len(host))
    return IonBonds(
        ion_numbers=np.full(len(images), atomic_number(band.ion), dtype=np.int64),
        host_numbers=numbers[cell_atom],
        source_numbers=numbers,
        host_target=target,
        host_source=source,
        host_vector=host_vector,
        ion_image=image,
        ion_host=neighbour,
        ion_vector=ion_vector.astype(np.float32),
        short_ion=short_ion,
        short_host=short_host,
        at_ion_one=at_ion[0],
        at_ion_other=at_ion[1],
        at_host_one=at_host[0],
        at_host_other=at_host[1],
    )


class _HostBonds:
    """The bonds of the atoms of a periodic host, those of an atom found when they are first asked for.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        frac_coords: of the host's atoms, shape [n_host, 3].
    """

    def __init__(self, lattice_angstrom: FloatArray, frac_coords: FloatArray) -> None:
        within = ATOM_CUTOFF_ANGSTROM + _ROUNDING_ANGSTROM
        _, self._positions, self._atoms, is_home = copies_near_cell(frac_coords, lattice_angstrom, within)
        self._home = np.flatnonzero(is_home)
        self._found: dict[int, tuple[IntArray, NDArray[np.float32]]] = {}

    def of(self, atoms: IntArray) -> tuple[IntArray, IntArray, NDArray[np.float32]]:
        """The bonds of some atoms, one after the other.

        Args:
            atoms: indices in the host, of several copies of an atom each, shape [n].

        Returns:
            for each bond its place among the atoms, the host's atom that it leads to, and its vector, angstrom.
        """
        asked = atoms.tolist()
        missing = [atom for atom in dict.fromkeys(asked) if atom not in self._found]
        if missing:
            self._find(missing)
        found = [self._found[atom] for atom in asked]
        counts = np.array([len(others) for others, _ in found], dtype=np.int64)
        return (
            np.repeat(np.arange(len(atoms)), counts),
            np.concatenate([np.empty(0, dtype=np.int64), *(others for others, _ in found)]),
            np.concatenate([np.empty((0, 3), dtype=np.float32), *(vectors for _, vectors in found)]),
        )

    def _find(self, atoms: list[int]) -> None:
        centre, other, vector = _bonds(self._positions[self._home[atoms]], self._positions)
        others = other != self._home[atoms][centre]  # not to itself
        centre, other, vector = centre[others], self._atoms[other[others]], vector[others].astype(np.float32)
        ends = np.cumsum(np.bincount(centre, minlength=len(atoms)))[:-1]
        for atom, others, vectors in zip(atoms, np.split(other, ends), np.split(vector, ends), strict=True):
            self._found[atom] = others, vectors


@lru_cache(maxsize=_HOSTS_KEPT)
def _host_bonds(lattice_bytes: bytes, frac_bytes: bytes) -> _HostBonds:
    return _HostBonds(*(np.frombuffer(one).reshape(-1, 3) for one in (lattice_bytes, frac_bytes)))


def _bonds(centres: FloatArray, others: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs within the cutoff, centre by centre, and the vectors between them."""
    # A path's surroundings are some hundred atoms by a thousand: computing every distance is faster than a search tree.
    middle = centres.sum(axis=0) / max(1, len(centres))
    one, two = centres - middle, others - middle
    squared = np.einsum("ci,ci->c", one, one)[:, None] + np.einsum("oi,oi->o", two, two) - 2.0 * one @ two.T
    centre, other = np.nonzero(squared < (ATOM_CUTOFF_ANGSTROM + _ROUNDING_ANGSTROM) ** 2)
    vector = others[other] - centres[centre]
    length = _lengths(vector)
    near = length <= ATOM_CUTOFF_ANGSTROM
    centre, other, vector, length = centre[near], other[near], vector[near], length[near]
    # Too close to have a direction: moved apart along the first axis; only an unphysical band needs this.
    vector[length < SAME_PLACE_ANGSTROM] = (SAME_PLACE_ANGSTROM, 0.0, 0.0)
    return centre, other, vector


def _lengths(vectors: FloatArray | NDArray[np.float32]) -> FloatArray:
    return np.asarray(np.sqrt(np.einsum("bi,bi->b", vectors, vectors)))


def _meeting(one: IntArray, other: IntArray, count: int) -> IntArray:
    """Every pair of places in two lists that hold the same number below count, shape [2, n_pairs]."""
    order = np.argsort(other, kind="stable")
    mates = np.bincount(other, minlength=count)
    begin = np.cumsum(mates) - mates
    repeats = mates[one]
    first = np.repeat(np.arange(len(one)), repeats)
    place = np.arange(len(first)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return np.stack([first, order[begin[one[first]] + place]])
