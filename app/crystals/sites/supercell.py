"""Right-sized supercells: no lattice translation under 8 angstrom, with as few atoms as that takes."""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from app.crystals.band import FloatArray, IntArray
from app.crystals.crystal import Contents
from app.crystals.geometry.contacts import OVERLAP_ANGSTROM
from app.crystals.geometry.isometries import lattice_isometries
from app.crystals.geometry.lattices import (
    contains,
    cosets,
    hermite_form,
    hermite_forms,
    reduce_modulo,
    short_translations,
    shortest_translation_angstrom,
)
from app.crystals.geometry.periodic import near_pairs, position_order, shortest_lengths
from app.crystals.geometry.reduction import reduced_lattice
from app.crystals.sites.ion_sites import IonSite, Sublattices
from app.crystals.sites.symmetry import SYMMETRY_TOLERANCE_ANGSTROM, Symmetry, find_symmetry
from app.errors import TooLargeError

#: Least distance of an ion to its own periodic copies.
SHORTEST_TRANSLATION_ANGSTROM = 8.0
#: The densest lattice packing: no cell with shortest translation s is smaller than s^3 / sqrt(2).
DENSEST = math.sqrt(2.0)
ROUNDING_ANGSTROM = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Motif:
    """The cell that a supercell repeats: the uploaded one, or its primitive cell.

    Attributes:
        crystal: the atoms of one motif.
        site_ion: for each site of the uploaded cell, which site of the motif it is, shape [n_sites].
        site_cell: the cell of the motif that it is in, integers, shape [n_sites, 3].
        uploaded_cell: the uploaded cell's vectors as whole numbers of the motif's, shape [3, 3].
        known_symmetry: of the motif, where it follows from the uploaded cell's.
    """

    crystal: Sublattices
    site_ion: IntArray
    site_cell: IntArray
    uploaded_cell: IntArray
    known_symmetry: Symmetry | None = None

    @cached_property
    def symmetry(self) -> Symmetry:
        """The symmetry of the motif, computed once."""
        return find_symmetry(self.crystal) if self.known_symmetry is None else self.known_symmetry

    @property
    def lattice_angstrom(self) -> FloatArray:
        """Rows are its vectors, shape [3, 3], angstrom."""
        return self.crystal.lattice_angstrom

    @property
    def atom_count(self) -> int:
        """The number of its atoms and sites of the ion."""
        return len(self.crystal.host_contents) + len(self.crystal.sites)

    def fold(self, hops: IntArray) -> IntArray:
        """Write hops of the uploaded cell as hops of the motif: rows (from, to, offset x, y, z), shape [n, 5]."""
        start, end = hops[:, 0], hops[:, 1]
        offsets = self.site_cell[end] + hops[:, 2:] @ self.uploaded_cell - self.site_cell[start]
        return np.column_stack([self.site_ion[start], self.site_ion[end], offsets])


@dataclass(frozen=True, kw_only=True, eq=False)
class Supercell:
    """A motif and the lattice on which it repeats.

    Attributes:
        motif: what is repeated.
        form: Hermite form of the supercell's lattice in whole numbers of the motif's vectors, shape [3, 3].
        lattice_angstrom: rows are the supercell's vectors, a basis of that lattice, shape [3, 3], angstrom.
    """

    motif: Motif
    form: IntArray
    lattice_angstrom: FloatArray
    _distances: dict[int, FloatArray] = field(default_factory=dict, init=False, repr=False)
    _ions_on: dict[bytes, IntArray] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def copies(self) -> int:
        """The number of copies of the motif."""
        return int(np.prod(np.diag(self.form)))

    @cached_property
    def to_frac(self) -> FloatArray:
        """From angstrom to fractional coordinates in the supercell, shape [3, 3]."""
        return np.asarray(np.linalg.inv(self.lattice_angstrom))

    @cached_property
    def host_frac_coords(self) -> FloatArray:
        """The host's atoms, those of each copy together, shape [copies * n_host, 3], in 0..1."""
        return self._repeated(self.motif.crystal.host_frac_coords)

    @cached_property
    def host_contents(self) -> tuple[Contents, ...]:
        """The contents of each."""
        return self.motif.crystal.host_contents * self.copies

    @cached_property
    def ion_frac_coords(self) -> FloatArray:
        """The ion's sites, those of each copy together, shape [copies * n_ion, 3], in 0..1."""
        return self._repeated(self.motif.crystal.site_frac_coords)

    @cached_property
    def ion_ranks(self) -> IntArray:
        """The place of each of the ion's sites in the order of their positions, shape [copies * n_ion]."""
        return np.argsort(position_order(self.ion_frac_coords))

    @cached_property
    def occupancies(self) -> FloatArray:
        """The occupancies of the ion's sites, shape [copies * n_ion]."""
        return np.tile(self.motif.crystal.occupancies, self.copies)

    @cached_property
    def shared_with(self) -> tuple[Contents, ...]:
        """The host's elements that share each of the ion's sites."""
        return tuple(site.shared_with for site in self.motif.crystal.sites) * self.copies

    def distances_from(self, ion: int) -> FloatArray:
        """Periodic distances from one of the ion's sites to all of them, shape [copies * n_ion], angstrom.

        Each is computed once: filling sites needs the same ones for every hop.
        """
        if ion not in self._distances:
            vectors = self.ion_frac_coords - self.ion_frac_coords[ion]
            self._distances[ion] = shortest_lengths(vectors, self.lattice_angstrom)
        return self._distances[ion]

    def ions_on(self, frac_coords: FloatArray) -> IntArray:
        """The ion's sites that some atoms, shape [n, 3], are on; found once for equal atoms."""
        if not len(frac_coords):
            return np.empty(0, dtype=np.int64)
        key = frac_coords.tobytes()
        if key not in self._ions_on:
            pairs, _ = near_pairs(self.ion_frac_coords, frac_coords, self.lattice_angstrom, OVERLAP_ANGSTROM)
            self._ions_on[key] = np.unique(pairs[:, 0])
        return self._ions_on[key]

    def locate(self, site: int, offset: IntArray) -> tuple[int, FloatArray]:
        """Find a site of the uploaded crystal in the supercell.

        Args:
            site: its index in the uploaded cell.
            offset: whole cells of the uploaded lattice, shape [3].

        Returns:
            its index among the supercell's sites of the ion, and its unwrapped fractional coordinates in the
            supercell, shape [3].
        """
        motif = self.motif
        cell = motif.site_cell[site] + offset @ motif.uploaded_cell
        inside = reduce_modulo(cell[None], self.form)[0]
        sizes = np.diag(self.form)
        copy = (inside[0] * sizes[1] + inside[1]) * sizes[2] + inside[2]  # the order of `cosets`
        ion = int(motif.site_ion[site])
        position = (motif.crystal.site_frac_coords[ion] + cell) @ motif.lattice_angstrom
        return int(copy) * len(motif.crystal.sites) + ion, position @ self.to_frac

    def _repeated(self, frac_coords: FloatArray) -> FloatArray:
        positions = (cosets(self.form)[:, None] + frac_coords[None]).reshape(-1, 3) @ self.motif.lattice_angstrom
        return np.asarray(positions @ self.to_frac % 1.0)


def choose_supercell(crystal: Sublattices, *, max_atoms: int) -> Supercell:
    """Choose the supercell in which a crystal's hops are predicted.

    It repeats the primitive cell, possibly skewed, with the fewest atoms that keep every lattice translation at
    SHORTEST_TRANSLATION_ANGSTROM or more. But an uploaded cell that is large enough already is kept: its size sets the
    distance between vacancies, and is a deliberate choice, as in the published barriers that models are fitted on. In a
    fifth of those bands the cell has over twice the atoms of the smallest one, and a network that averages over atoms
    answers differently in the two.

    Raises:
        TooLargeError: it needs more than max_atoms atoms ("too-many-atoms").
    """
    shortest = shortest_translation_angstrom(crystal.lattice_angstrom)
    if shortest < SHORTEST_TRANSLATION_ANGSTROM - ROUNDING_ANGSTROM:
        return smallest_supercell(primitive_motif(crystal, find_symmetry(crystal)), max_atoms=max_atoms)
    uploaded = uploaded_motif(crystal)
    if uploaded.atom_count > max_atoms:
        raise _too_large(uploaded.atom_count, max_atoms)
    return Supercell(motif=uploaded, form=np.eye(3, dtype=np.int64), lattice_angstrom=crystal.lattice_angstrom)


def smallest_supercell(motif: Motif, *, max_atoms: int, without: IntArray | None = None) -> Supercell:
    """The supercell with fewest atoms and, of those, the longest shortest translation.

    Every sublattice of the motif's lattice is tried, index by index, until one has no short translation.

    Args:
        motif: what is repeated.
        max_atoms: most atoms.
        without: a further translation that it must not have, integers in the motif's vectors, shape [3].

    Raises:
        TooLargeError: it needs more than max_atoms atoms ("too-many-atoms").
    """
    bound = SHORTEST_TRANSLATION_ANGSTROM - ROUNDING_ANGSTROM
    forbidden, _ = short_translations(motif.lattice_angstrom, bound)
    if without is not None:
        forbidden = np.vstack([forbidden, without[None]])
    volume = abs(float(np.linalg.det(motif.lattice_angstrom)))
    copies = max(1, math.ceil(bound**3 / DENSEST / volume))
    while copies * motif.atom_count <= max_atoms:
        forms = hermite_forms(copies)
        forms = forms[~contains(forms, forbidden).any(axis=1)]
        if len(forms):
            form = _roomiest(motif, forms)
            lattice = _right_handed(reduced_lattice(form @ motif.lattice_angstrom)[0])
            return Supercell(motif=motif, form=form, lattice_angstrom=lattice)
        copies += 1
    raise _too_large(copies * motif.atom_count, max_atoms)


def _right_handed(lattice_angstrom: FloatArray) -> FloatArray:
    return lattice_angstrom if np.linalg.det(lattice_angstrom) > 0 else -lattice_angstrom


def _too_large(atom_count: int, max_atoms: int) -> TooLargeError:
    return TooLargeError(
        f"A supercell of this crystal in which the ion keeps {SHORTEST_TRANSLATION_ANGSTROM:g} angstrom "
        f"from its own copies has {atom_count} atoms or more; at most {max_atoms} are accepted (IONPATH_MAX_ATOMS).",
        kind="too-many-atoms",
        where="structure",
        expected=f"a crystal whose supercell has at most {max_atoms} atoms",
    )


def _roomiest(motif: Motif, forms: IntArray) -> IntArray:
    """Of sublattices of one index, that with the longest shortest translation, and fewest near it."""
    volume = abs(float(np.linalg.det(motif.lattice_angstrom))) * int(np.prod(np.diag(forms[0])))
    longest = (DENSEST * volume) ** (1 / 3) + ROUNDING_ANGSTROM
    vectors, lengths = short_translations(motif.lattice_angstrom, longest + 1.0)
    inside = contains(forms, vectors)
    first = np.where(inside.any(axis=1), lengths[inside.argmax(axis=1)], np.inf)
    # the number of short translations decides between lattices with equal shortest ones
    crowd = np.round(np.where(inside, np.exp(-lengths / 2.0), 0.0).sum(axis=1), 6)
    order = np.lexsort([crowd, -np.round(first, 4)])
    return np.asarray(forms[order[0]])


def uploaded_motif(crystal: Sublattices, symmetry: Symmetry | None = None) -> Motif:
    """The uploaded cell itself, with its symmetry if that is known."""
    count = len(crystal.sites)
    return Motif(
        crystal=crystal,
        site_ion=np.arange(count),
        site_cell=np.zeros((count, 3), dtype=np.int64),
        uploaded_cell=np.eye(3, dtype=np.int64),
        known_symmetry=symmetry,
    )


def primitive_motif(crystal: Sublattices, symmetry: Symmetry) -> Motif:
    """The primitive cell, in the uploaded crystal's orientation; the uploaded cell if it is primitive."""
    count = len(symmetry.pure_translations)
    atoms = symmetry.primitive_atoms
    _, first, which = np.unique(atoms, return_index=True, return_inverse=True)
    if count == 1 or len(first) * count != len(atoms):
        return uploaded_motif(crystal, symmetry)
    # pure translations are whole multiples of 1/count, as the order of an element divides that of its group
    steps = np.vstack([np.rint(symmetry.pure_translations * count).astype(np.int64), count * np.eye(3, dtype=np.int64)])
    lattice = reduced_lattice(hermite_form(steps) / count @ crystal.lattice_angstrom)[0]
    to_motif = crystal.lattice_angstrom @ np.linalg.inv(lattice)
    coords = np.vstack([crystal.host_frac_coords, crystal.site_frac_coords]) @ to_motif
    cells = np.rint(coords - coords[first][which]).astype(np.int64)
    strays = np.linalg.norm((coords - coords[first][which] - cells) @ lattice, axis=1)
    if strays.max() > 5 * SYMMETRY_TOLERANCE_ANGSTROM:
        return uploaded_motif(crystal, symmetry)
    host_count = len(crystal.host_contents)
    host, ions = first[first < host_count], first[first >= host_count]
    place = {atom: k for k, atom in enumerate(ions)}
    primitive = Sublattices(
        lattice_angstrom=lattice,
        ion=crystal.ion,
        sites=tuple(_site_at(k, coords[atom], crystal.sites[atom - host_count]) for k, atom in enumerate(ions)),
        host_contents=tuple(crystal.host_contents[k] for k in host),
        host_frac_coords=coords[host],
    )
    return Motif(
        crystal=primitive,
        site_ion=np.array([place[atom] for atom in first[which[host_count:]]], dtype=np.int64),
        site_cell=cells[host_count:],
        uploaded_cell=np.rint(to_motif).astype(np.int64),
        known_symmetry=_in_primitive_cell(symmetry, crystal.lattice_angstrom, lattice, len(first)),
    )


def _in_primitive_cell(
    symmetry: Symmetry, cell_angstrom: FloatArray, primitive_angstrom: FloatArray, atom_count: int
) -> Symmetry | None:
    """The symmetry of a cell in terms of its primitive cell; None where the shape of the cell breaks some of it."""
    cell = reduced_lattice(cell_angstrom)[0]
    isometries = lattice_isometries(primitive_angstrom, primitive_angstrom, SYMMETRY_TOLERANCE_ANGSTROM)
    if len(lattice_isometries(cell, cell, SYMMETRY_TOLERANCE_ANGSTROM)) != len(isometries):
        return None
    # as many isometries may be others: doubled along a, a tetragonal cell with c = 2 a has its axis along b
    repeats = cell_angstrom @ np.linalg.inv(primitive_angstrom)
    in_cell = np.rint(repeats) @ isometries @ np.linalg.inv(np.rint(repeats))
    if not np.allclose(in_cell, np.rint(in_cell), atol=1e-6):
        return None
    change = repeats.T
    rotations = np.rint(change @ symmetry.rotations @ np.linalg.inv(change)).astype(np.int64)
    _, once = np.unique(rotations.reshape(-1, 9), axis=0, return_index=True)
    return Symmetry(
        rotations=rotations[once],
        translations=symmetry.translations[once] @ change.T,
        pure_translations=np.zeros((1, 3)),
        primitive_atoms=np.arange(atom_count),
    )


def _site_at(index: int, frac_coords: FloatArray, site: IonSite) -> IonSite:
    x, y, z = (float(value) for value in frac_coords)
    return replace(site, index=index, frac_coords=(x, y, z))
