"""Identity of bands: canonical forms, cache buckets, and the comparison.

Two bands are the same where their hosts and end points agree within 2e-3 angstrom after a rigid motion,
whatever the cell's origin, the order of the atoms, the choice of lattice vectors, the wrapping and the
direction of the hop. Mirror images are the same: a network reads only distances and angles. What no model reads (images
between the end points, relaxed hosts) is not compared.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import numpy as np
from scipy.spatial import cKDTree

from app.crystals.band import Band, FloatArray, IntArray
from app.crystals.geometry.isometries import lattice_isometries
from app.crystals.geometry.reduction import reduced_lattice

#: File formats round, and pymatgen's CIF reader snaps coordinates by up to 8e-4 angstrom.
TOLERANCE_ANGSTROM = 2e-3
#: How far an invariant length may move when atoms and lattice vectors each move by the tolerance.
_REACH_ANGSTROM = 5 * TOLERANCE_ANGSTROM
#: Wide compared with the reach, so that most lookups need one bucket; narrow enough that few bands share one.
_BIN_ANGSTROM = 0.2
#: Number of invariants in a bucket key; the others only reject candidates before the full comparison.
_BUCKET_INVARIANTS = 5
_PROBE_ATOMS = 8
#: Keeps atoms of different elements apart in one k-d tree.
_ELEMENT_SPACING_ANGSTROM = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class CanonicalBand:
    """The canonical form of a band: what is compared, and what a cache stores.

    Attributes:
        ion: element symbol of the migrating ion.
        elements: the host's elements and how many atoms of each, in alphabetical order.
        lattice_angstrom: a reduced basis, shape [3, 3], angstrom.
        host_frac_coords: relative to the first image, in 0..1, sorted by element, then by their distance to
            the middle of the hop, shape [n_host, 3].
        hop_frac: from the first image to the last, not wrapped, shape [3].
        middle_distances_angstrom: shortest periodic distances from the middle of the hop to the host's atoms,
            in their order, shape [n_host], angstrom: sorted distances move no more than the atoms do.
        invariants_angstrom: lengths that do not depend on the setting, angstrom; see `fingerprint`.
    """

    ion: str
    elements: tuple[tuple[str, int], ...]
    lattice_angstrom: FloatArray
    host_frac_coords: FloatArray
    hop_frac: FloatArray
    middle_distances_angstrom: FloatArray
    invariants_angstrom: tuple[float, ...]

    @property
    def atom_count(self) -> int:
        """Atoms of one image: the host's and the ion."""
        return len(self.host_frac_coords) + 1

    @cached_property
    def fingerprint(self) -> "Fingerprint":
        """What it shares with every band that is the same."""
        composition = " ".join(f"{element}{count}" for element, count in self.elements)
        return Fingerprint(ion=self.ion, composition=composition, invariants_angstrom=self.invariants_angstrom)

    @cached_property
    def element_numbers(self) -> IntArray:
        """Which of `elements` each host atom is, shape [n_host]."""
        return np.repeat(np.arange(len(self.elements)), [count for _, count in self.elements])

    @cached_property
    def tree(self) -> cKDTree:
        """A periodic tree of the host's atoms by position and element."""
        box = np.append(np.linalg.norm(self.lattice_angstrom, axis=1), 0.0)
        places = _tree_places(self.host_frac_coords, self.element_numbers, self.lattice_angstrom)
        places[:, :3] = np.where(places[:, :3] >= box[:3], 0.0, places[:, :3])  # 1 - 1e-17 was rounded up
        return cKDTree(places, boxsize=box)


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The fingerprint of a band, compared before two bands are compared atom by atom.

    Attributes:
        ion: element symbol of the migrating ion.
        composition: the host's, such as "Fe4 O16 P4".
        invariants_angstrom: cube root of the cell's volume; length of the hop; the distance to the nearest
            host atom from the middle of the hop and from its end points (smaller, larger); the mean distance
            to the host's atoms from the middle and from the end points (smaller, larger). All in angstrom.
    """

    ion: str
    composition: str
    invariants_angstrom: tuple[float, ...]


def canonical(band: Band | CanonicalBand) -> CanonicalBand:
    """The canonical form of a band; a canonical form is returned unchanged."""
    if isinstance(band, CanonicalBand):
        return band
    lattice, matrix = reduced_lattice(band.lattice_angstrom)
    to_reduced = np.linalg.inv(matrix)
    start = band.image_frac_coords[0]
    host = (band.host_frac_coords - start) @ to_reduced
    hop = (band.image_frac_coords[-1] - start) @ to_reduced
    distances = _host_distances(lattice, host, hop)
    order = np.lexsort((distances[1], np.array(band.host_species)))
    return CanonicalBand(
        ion=band.ion,
        elements=tuple(sorted(Counter(band.host_species).items())),
        lattice_angstrom=lattice,
        host_frac_coords=host[order] % 1.0,
        hop_frac=hop,
        middle_distances_angstrom=distances[1, order],
        invariants_angstrom=_invariants(lattice, hop, distances),
    )


@cache
def _neighbour_cells() -> FloatArray:
    return np.array(list(product((-1.0, 0.0, 1.0), repeat=3)))


def _host_distances(lattice: FloatArray, host: FloatArray, hop: FloatArray) -> FloatArray:
    """Shortest periodic distances from start, middle and end of the hop to the host's atoms, [3, n_host]."""
    places = host[None, :, :] - np.array([0.0, 0.5, 1.0])[:, None, None] * hop
    places = (places - np.rint(places)) @ lattice
    # |place + cell|^2 = |place|^2 + 2 place.cell + |cell|^2; in a reduced basis the next cells are enough.
    cells = _neighbour_cells() @ lattice
    cross = (2.0 * places @ cells.T + np.einsum("ij,ij->i", cells, cells)).min(axis=2)
    return np.asarray(np.sqrt(np.maximum(np.einsum("ijk,ijk->ij", places, places) + cross, 0.0)))


def _invariants(lattice: FloatArray, hop: FloatArray, distances: FloatArray) -> tuple[float, ...]:
    side = abs(np.linalg.det(lattice)) ** (1 / 3)
    if distances.shape[1] == 0:  # a lone ion has no distances; zeros are used instead
        distances = np.zeros((3, 1))
    nearest, mean = distances.min(axis=1), distances.mean(axis=1)
    values = [side, np.linalg.norm(hop @ lattice)]
    for start, middle, end in (nearest, mean):
        values += [middle, min(start, end), max(start, end)]
    return tuple(float(value) for value in values)


def fingerprint(band: Band | CanonicalBand) -> Fingerprint:
    """The fingerprint of a band; equal within the tolerance for equal bands."""
    return canonical(band).fingerprint


def bucket_keys(mark: Fingerprint) -> list[str]:
    """Keys of the buckets where a band may be found: its own first, then those that rounding could reach.

    A band is stored under the first key only and looked up under all of them; mostly there are one or two.
    """
    lengths = np.array(mark.invariants_angstrom[:_BUCKET_INVARIANTS])
    own = np.floor(lengths / _BIN_ANGSTROM)
    low, high = (np.floor((lengths + reach) / _BIN_ANGSTROM) for reach in (-_REACH_ANGSTROM, _REACH_ANGSTROM))
    choices = [
        [int(home), *({int(below), int(above)} - {int(home)})]
        for below, home, above in zip(low, own, high, strict=True)
    ]
    head = f"{mark.ion}|{mark.composition}|"
    return [head + ",".join(map(str, numbers)) for numbers in product(*choices)]


def same_band(one: Band | CanonicalBand, other: Band | CanonicalBand, *, directional: bool = False) -> bool:
    """Whether two bands are the same; never true of two that differ by more than the tolerance.

    Args:
        one: a band, or its canonical form where it is compared with many.
        other: another one.
        directional: distinguish a hop from its reverse.
    """
    left, right = canonical(one), canonical(other)
    if not _could_be_same(left, right):
        return False
    matrices = lattice_isometries(left.lattice_angstrom, right.lattice_angstrom, TOLERANCE_ANGSTROM)
    if not len(matrices):
        return False
    changes = np.rint(np.linalg.inv(matrices))
    if _host_matches(left, right.host_frac_coords, right.hop_frac, changes):
        return True
    return not directional and _host_matches(left, right.host_frac_coords - right.hop_frac, -right.hop_frac, changes)


def _could_be_same(left: CanonicalBand, right: CanonicalBand) -> bool:
    """A test that takes microseconds and distinguishes most bands."""
    if left.ion != right.ion or left.elements != right.elements:
        return False
    pairs = zip(left.invariants_angstrom, right.invariants_angstrom, strict=True)
    if any(abs(a - b) > _REACH_ANGSTROM for a, b in pairs):
        return False
    apart = np.abs(left.middle_distances_angstrom - right.middle_distances_angstrom)
    return bool((apart <= _REACH_ANGSTROM).all())


def _host_matches(left: CanonicalBand, host: FloatArray, hop: FloatArray, changes: FloatArray) -> bool:
    """Whether one of the changes of basis maps a host and hop, both relative to the ion, onto those of `left`."""
    hop_errors = (hop @ changes - left.hop_frac) @ left.lattice_angstrom
    close = np.linalg.norm(hop_errors, axis=1) <= 2 * TOLERANCE_ANGSTROM
    changes, hop_errors = changes[close], hop_errors[close]
    probes = slice(None, None, max(1, len(host) // _PROBE_ATOMS))
    found = _nearest(left, host[probes] @ changes, left.element_numbers[probes]) < left.tree.n
    for number in np.flatnonzero(found.all(axis=1)):
        if _all_agree(left, host @ changes[number], hop_errors[number]):
            return True
    return False


def _nearest(left: CanonicalBand, frac_coords: FloatArray, elements: IntArray) -> IntArray:
    """The index of the atom of the left host at each position, shape [..., n]; n_host where there is none."""
    places = _tree_places(frac_coords, elements, left.lattice_angstrom)
    # Measured along a reduced basis a short vector is at most twice as long; `_all_agree` is exact.
    return np.asarray(left.tree.query(places, distance_upper_bound=8 * TOLERANCE_ANGSTROM)[1], dtype=np.int64)


def _tree_places(frac_coords: FloatArray, elements: IntArray, lattice: FloatArray) -> FloatArray:
    """Points of the periodic k-d tree: angstrom along each lattice vector, then the element."""
    along = (frac_coords % 1.0) * np.linalg.norm(lattice, axis=1)
    column = np.broadcast_to(elements * _ELEMENT_SPACING_ANGSTROM, along.shape[:-1])
    return np.concatenate([along, column[..., None]], axis=-1)


def _all_agree(left: CanonicalBand, host: FloatArray, hop_error: FloatArray) -> bool:
    """Whether every atom has a partner of its own within the tolerance, after the mean shift."""
    partners = _nearest(left, host, left.element_numbers)
    if not np.array_equal(np.sort(partners), np.arange(len(host))):
        return False
    steps = host - left.host_frac_coords[partners]
    steps = (steps - np.rint(steps)) @ left.lattice_angstrom
    # The first images were superimposed: without this the ion's rounding error would be added to all atoms.
    moves = np.concatenate([steps, np.zeros((1, 3)), hop_error[None, :]])
    moves = moves - moves.mean(axis=0)
    return bool(np.linalg.norm(moves, axis=1).max() <= TOLERANCE_ANGSTROM)
