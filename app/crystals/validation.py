"""Checks of a band: its cell, the distances of its atoms, its path."""

from collections.abc import Sequence

import numpy as np

from app.crystals.band import MODEL_IMAGE_COUNT, Band, FloatArray
from app.crystals.crystal import Crystal
from app.crystals.geometry.contacts import OVERLAP_ANGSTROM, Contact, close_contacts
from app.crystals.geometry.periodic import cell_heights_angstrom, near_pairs
from app.crystals.geometry.reduction import reduced_lattice
from app.crystals.geometry.vacuum import find_vacuum
from app.errors import InputError

#: Of a file in which atoms are on top of each other.
OTHER_COORDINATES = (
    "or else the coordinates may be Cartesian in place of fractional, fractional in place of Cartesian, or of another "
    "setting's origin"
)
#: A straight path that passes nearer to a host atom than this leads through it.
CLOSE_PASS_ANGSTROM = 0.7
#: Further than this from the straight line, or from the first image's host, and there is a warning.
DEVIATION_ANGSTROM = 0.3
#: Images of an NEB do not go back by more than this share of the hop.
_TURNS_BACK = 0.1
#: Another ion that moves by more hops as well; one that is pushed aside moves by less.
_HOPS_ANGSTROM = 1.0
#: The least that an ion moves in a hop; the shortest published one has 1.5.
LEAST_HOP_ANGSTROM = 0.3
#: Three times the longest published hop: what is around a longer one takes too long to gather.
LONGEST_HOP_ANGSTROM = 30.0
LEAST_HEIGHT_ANGSTROM = 1.2
LARGEST_CELL_ANGSTROM = 1000.0
#: A refused cell is called flat where its shortest vector is at most the first share of its longest, or its volume at
#: most the second share of the product of its lengths; else too small, where no vector is longer than the limit.
_LONGEST_SMALL_ANGSTROM = 5.0
_FLAT_SHARES = (0.05, 0.01)
_ANGSTROM_PER_NANOMETRE = 10.0
_PICOMETRES_PER_ANGSTROM = 100.0
#: A crystal has at least so many atoms in a cubic angstrom.
_SPARSEST_CRYSTAL = 0.01
_PICOMETRES = " These look like picometres."
_IN_PICOMETRES = "lengths in angstrom, which is 100 picometres"
LARGEST_FRACTION = 100.0
#: Diamond, the densest there is, has 0.18 atoms in a cubic angstrom.
DENSEST_ATOMS_PER_CUBIC_ANGSTROM = 0.5
#: A split atom has many sites, one for each place where it may be found.
DENSEST_SITES_PER_CUBIC_ANGSTROM = 2.0
#: Even a lone molecule in a box has more atoms than this.
SPARSEST_ATOMS_PER_CUBIC_ANGSTROM = 1e-4
#: So many pairs of atoms are named in a warning; the rest are counted.
_NAMED_CONTACTS = 3
#: The smallest primitive cells, of one nickel or cobalt atom, have 11.
SMALLEST_CELL_CUBIC_ANGSTROM = 8.0


def check_cell(lattice_angstrom: FloatArray, where: str) -> None:
    """Refuse a cell that is not finite, flat, too small for an atom, or larger than any calculation's.

    A lattice may be written with long, skewed vectors, so it is flat where its shortest basis is.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        where: the file or field.

    Raises:
        InputError: kind "not-a-cell".
    """
    expected = "three lattice vectors in angstrom, as rows, that span a volume"
    if not np.isfinite(lattice_angstrom).all() or np.abs(lattice_angstrom).max() > LARGEST_CELL_ANGSTROM:
        hint = _PICOMETRES if _looks_like_picometres(lattice_angstrom) else ""
        raise InputError(
            f"The lattice vectors are not finite numbers below 1000 angstrom.{hint}",
            kind="not-a-cell",
            where=where,
            expected=_IN_PICOMETRES if hint else expected,
        )
    volume = abs(float(np.linalg.det(lattice_angstrom)))
    tiny = volume < LEAST_HEIGHT_ANGSTROM**3  # asked first: vectors in one plane have no shortest basis
    if not tiny and cell_heights_angstrom(reduced_lattice(lattice_angstrom)[0]).min() >= LEAST_HEIGHT_ANGSTROM:
        return
    lengths = np.linalg.norm(lattice_angstrom, axis=1)
    shown = ", ".join(f"{length:.3g}" for length in lengths)
    shortest, box = _FLAT_SHARES
    flat = lengths.min() <= shortest * lengths.max() or volume <= box * lengths.prod()
    small = not flat and lengths.max() <= _LONGEST_SMALL_ANGSTROM
    in_nanometres = small and volume * _ANGSTROM_PER_NANOMETRE**3 >= SMALLEST_CELL_CUBIC_ANGSTROM
    raise InputError(
        f"The cell is {'too small' if small else 'flat'}: its vectors of {shown} angstrom span {volume:.3g} "
        f"cubic angstrom, and no atom fits between its faces.{' These look like nanometres.' if in_nanometres else ''}",
        kind="not-a-cell",
        where=where,
        expected="lengths in angstrom; a nanometre is 10" if small else expected,
    )


def _looks_like_picometres(lattice_angstrom: FloatArray) -> bool:
    """Whether all lengths are above 100 angstrom and a hundredth of them makes a cell of a crystal."""
    largest = LARGEST_CELL_ANGSTROM * _PICOMETRES_PER_ANGSTROM
    if not np.abs(lattice_angstrom).max() <= largest:  # so written that NaN is none
        return False
    lengths = np.linalg.norm(lattice_angstrom, axis=1)
    volume = abs(float(np.linalg.det(lattice_angstrom / _PICOMETRES_PER_ANGSTROM)))
    return bool(lengths.min() > _PICOMETRES_PER_ANGSTROM and volume >= SMALLEST_CELL_CUBIC_ANGSTROM)


def check_density(lattice_angstrom: FloatArray, where: str, *, atoms: float, sites: int | None = None) -> None:
    """Refuse more or fewer atoms than any crystal has in its cell's volume: most likely the unit is wrong.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom; a cell that `check_cell` takes.
        where: the file or field.
        atoms: how many there are, a partly occupied site counted in part.
        sites: how many places they have, where some are partly occupied.

    Raises:
        InputError: kind "impossible-density".
    """
    volume = abs(float(np.linalg.det(lattice_angstrom)))
    places = atoms if sites is None else sites
    crowded = (
        atoms > DENSEST_ATOMS_PER_CUBIC_ANGSTROM * volume
        or places > DENSEST_SITES_PER_CUBIC_ANGSTROM * volume
        or volume < SMALLEST_CELL_CUBIC_ANGSTROM
    )
    if not crowded and places >= SPARSEST_ATOMS_PER_CUBIC_ANGSTROM * volume:
        return
    in_picometres = (
        not crowded
        and _looks_like_picometres(lattice_angstrom)
        and places >= _SPARSEST_CRYSTAL * volume / _PICOMETRES_PER_ANGSTROM**3
    )
    amount = f"{atoms:g} atom{'' if atoms == 1 else 's'}" + (f" on {sites} sites" if sites and sites > atoms else "")
    raise InputError(
        f"A cell of {volume:.4g} cubic angstrom is far too {'small' if crowded else 'large'} for {amount}: "
        f"no crystal has such a density.{_PICOMETRES if in_picometres else ''}",
        kind="impossible-density",
        where=where,
        expected=_IN_PICOMETRES
        if in_picometres
        else "lengths in angstrom; a crystal has between 0.01 and 0.18 atoms in a cubic angstrom",
    )


def check_coordinates(frac_coords: FloatArray, where: str) -> None:
    """Refuse fractional coordinates that are not finite, or so large that they are surely something else.

    Args:
        frac_coords: shape [n, 3].
        where: the file or field; the error adds the row.

    Raises:
        InputError: kind "not-coordinates".
    """
    bad = ~(np.abs(frac_coords) <= LARGEST_FRACTION)  # so written that NaN is bad
    if bad.any():
        row, column = (int(k) for k in np.argwhere(bad)[0])
        raise InputError(
            f"{float(frac_coords[row, column]):g} is no fractional coordinate: they count cells, not angstrom.",
            kind="not-coordinates",
            where=f"{where}[{row}][{column}]",
            expected="finite fractional coordinates, mostly between 0 and 1",
        )


def check_contacts(crystal: Crystal, name: str) -> tuple[str, ...]:
    """Refuse atoms that are on top of each other; warn of those that are nearer than is plausible, and of vacuum.

    Args:
        crystal: its cell and coordinates are checked already.
        name: of the file.

    Raises:
        InputError: kind "atoms-overlap".
    """
    frac = np.array([site.frac_coords for site in crystal.sites])
    found = close_contacts([site.species for site in crystal.sites], frac, crystal.lattice_angstrom)
    if found.impossible:
        nearest = found.impossible[0]
        raise InputError(
            f"{_shown_pair(crystal, nearest)} are on top of each other, {nearest.distance_angstrom:.2f} angstrom "
            f"apart; such atoms are never nearer than {nearest.least_angstrom:.2f}.",
            kind="atoms-overlap",
            where=name,
            expected=f"each atom once; of a split site, partial occupancies; {OTHER_COORDINATES}",
        )
    warnings = []
    if found.implausible:
        shown = "; ".join(
            f"{_shown_pair(crystal, one)}, {one.distance_angstrom:.2f} angstrom (hardly ever below "
            f"{one.least_angstrom:.2f})"
            for one in found.implausible[:_NAMED_CONTACTS]
        )
        more = len(found.implausible) - _NAMED_CONTACTS
        rest = f"; and {more} more pairs" if more > 0 else ""
        warnings.append(
            f"Atoms of {name} are implausibly near each other: {shown}{rest}. Sites that exclude each other need "
            "occupancies that add up to 1 at most; hops beside such atoms are out of the domain."
        )
    return (*warnings, *_vacuum_warnings(crystal, frac, name))


def _shown_pair(crystal: Crystal, contact: Contact) -> str:
    names = []
    for index in contact.pair:
        site = crystal.sites[index]
        elements = "/".join(symbol for symbol, _ in site.species)
        names.append(f"{elements} at ({', '.join(f'{value:.4f}' for value in site.frac_coords)})")
    return " and ".join(names)


def _vacuum_warnings(crystal: Crystal, frac: FloatArray, name: str) -> tuple[str, ...]:
    """Warn of a slab, a wire or a molecule in a box: hops at its surface are not those in a crystal."""
    vacuum = find_vacuum(frac, crystal.lattice_angstrom)
    if vacuum is None:
        return ()
    sentence = (
        f"{name} is not a bulk crystal: there is a gap of {vacuum.gaps[0].width_angstrom:.1f} angstrom without atoms, "
        f"so it is a {vacuum.shape} in vacuum. Hops at its surface are excluded, and the others are out of the domain: "
        "the model was fitted on bulk crystals."
    )
    return (sentence,)


def band_vacuum(band: Band) -> str | None:
    """Why a band in a slab, a wire or a molecule is out of the domain; None in a bulk crystal.

    Args:
        band: its cell and coordinates are checked already.
    """
    atoms = np.vstack([band.host_frac_coords, band.image_frac_coords[:1]])
    vacuum = find_vacuum(atoms, band.lattice_angstrom)
    return None if vacuum is None else vacuum.as_doubt


def validate_band(band: Band) -> tuple[str, ...]:
    """Check that a band makes sense, in a millisecond for a hundred atoms.

    Returns:
        warnings: where its path leaves the straight line or its host moves by more than 0.3 angstrom, or where the
        straight path leads through an atom.

    Raises:
        InputError: kinds "not-a-cell", "impossible-density", "not-coordinates", "no-host", "one-image",
            "nothing-moves", "hop-too-long", "atoms-overlap".
    """
    check_cell(band.lattice_angstrom, "lattice_angstrom")
    if not band.host_species:
        raise no_host(band.ion, "host_species")
    check_density(band.lattice_angstrom, "lattice_angstrom", atoms=band.atom_count)
    check_coordinates(band.host_frac_coords, "host_frac_coords")
    check_coordinates(band.image_frac_coords, "image_frac_coords")
    if len(band.image_frac_coords) < 2:  # noqa: PLR2004 - a hop has two ends
        raise one_image("image_frac_coords")
    if band.hop_distance_angstrom < LEAST_HOP_ANGSTROM:
        raise nothing_moves(band.ion, band.hop_distance_angstrom)
    if band.hop_distance_angstrom > LONGEST_HOP_ANGSTROM:
        raise _too_long(band.ion, band.hop_distance_angstrom)
    _check_host(band, band.host_frac_coords, "")
    if band.relaxed_host_frac_coords is not None:
        for k, host in enumerate(band.relaxed_host_frac_coords[1:], start=1):
            check_coordinates(host, f"relaxed_host_frac_coords[{k}]")
            _check_host(band, host, f" of image {k}")
    return (*_host_warnings(band), *_curve_warnings(band), *_check_path(band))


def _too_long(ion: str, distance_angstrom: float) -> InputError:
    return InputError(
        f"{ion} moves {distance_angstrom:.1f} angstrom from the first image to the last, which is no single hop.",
        kind="hop-too-long",
        where="image_frac_coords",
        expected=f"at most {LONGEST_HOP_ANGSTROM:g} angstrom; give every hop of a longer way by itself",
    )


def no_host(ion: str, where: str) -> InputError:
    """The error for an ion that has no atom around it to hop past."""
    return InputError(
        f"There is nothing but the migrating {ion}: no host that it could hop through.",
        kind="no-host",
        where=where,
        expected="the whole crystal, with the atoms around the ions; a file of ion sites alone is not enough",
    )


def one_image(where: str, found: int = 1) -> InputError:
    """The error for a band with fewer than two images."""
    return InputError(
        f"A band needs two images or more, where the ion starts and where it ends; this one has {found}.",
        kind="one-image",
        where=where,
        expected="the first and the last image at least",
    )


def nothing_moves(ion: str, distance_angstrom: float) -> InputError:
    """The error for a band whose ion ends where it began."""
    return InputError(
        f"Nothing hops: {ion} ends {distance_angstrom:.2f} angstrom from where it began.",
        kind="nothing-moves",
        where="image_frac_coords",
        expected=f"an ion that ends at least {LEAST_HOP_ANGSTROM} angstrom away; for a hop to the ion's own periodic "
        "copy, coordinates that go on beyond the cell, in three images or more",
    )


def _check_host(band: Band, host_frac: FloatArray, of_image: str) -> None:
    pairs, lengths = near_pairs(host_frac, None, band.lattice_angstrom, OVERLAP_ANGSTROM)
    if len(pairs):
        k = int(lengths.argmin())
        i, j = sorted(int(index) for index in pairs[k])
        first, second = (f"{band.host_species[index]} (host atom {index})" for index in (i, j))
        raise InputError(
            f"{first} and {second}{of_image} are on top of each other, {lengths[k]:.2f} angstrom apart.",
            kind="atoms-overlap",
            where=f"host_frac_coords[{i}], host_frac_coords[{j}]",
            expected=f"each atom once, on one side of a disordered pair; {OTHER_COORDINATES}",
        )


def _near_distances(frac_vectors: FloatArray, lattice_angstrom: FloatArray) -> FloatArray:
    """Periodic distances, exact below half the reduced cell's least height; larger ones may come out too large."""
    basis, steps = reduced_lattice(lattice_angstrom)
    in_reduced = frac_vectors @ np.linalg.inv(steps)
    return np.asarray(np.linalg.norm((in_reduced - np.rint(in_reduced)) @ basis, axis=-1))


def _check_path(band: Band) -> tuple[str, ...]:
    """Refuse an end point on a host atom; warn of a straight path through one.

    The host is the first image's, as the models see it.
    """
    first, last = band.image_frac_coords[0], band.image_frac_coords[-1]
    steps = np.linspace(0.0, 1.0, MODEL_IMAGE_COUNT)[:, None]
    path = first + steps * (last - first)
    distances = _near_distances(path[:, None, :] - band.host_frac_coords[None, :, :], band.lattice_angstrom)
    nearest = distances.argmin(axis=1)
    for image, name in ((0, "starts"), (MODEL_IMAGE_COUNT - 1, "ends")):
        atom = int(nearest[image])
        if distances[image, atom] < OVERLAP_ANGSTROM:
            raise InputError(
                f"{band.ion} {name} on top of {band.host_species[atom]} (host atom {atom}), "
                f"{distances[image, atom]:.2f} angstrom apart{_knocked_on(band, atom)}.",
                kind="atoms-overlap",
                where=f"image_frac_coords[{0 if image == 0 else -1}], host_frac_coords[{atom}]",
                expected="an empty site at both ends of the hop: remove the atom that is in the way",
            )
    image = int(distances.min(axis=1).argmin())
    atom = int(nearest[image])
    closest = float(distances[image, atom])
    if closest >= CLOSE_PASS_ANGSTROM:
        return ()
    warning = (
        f"The straight line between the end points passes {closest:.2f} angstrom from {band.host_species[atom]} "
        f"(host atom {atom}): no ion goes there, and the barrier of such a path means little."
    )
    return (warning,)


def _knocked_on(band: Band, atom: int) -> str:
    """Say where the atom in the way leaves its place during the hop: several atoms hop at once."""
    hosts = band.relaxed_host_frac_coords
    if hosts is None:
        return ""
    moved = float(np.linalg.norm((hosts[-1, atom] - hosts[0, atom]) @ band.lattice_angstrom))
    if moved < DEVIATION_ANGSTROM:
        return ""
    return f"; that atom moves on by {moved:.2f} angstrom, and hops of several ions at once are not predicted"


def _curve_warnings(band: Band) -> Sequence[str]:
    images, lattice = band.image_frac_coords, band.lattice_angstrom
    start, hop = images[0] @ lattice, band.hop_vector_angstrom
    along = images @ lattice - start
    share = np.clip(along @ hop / (hop @ hop), 0.0, 1.0)[:, None]
    away = float(np.linalg.norm(along - share * hop, axis=1).max())
    if away <= DEVIATION_ANGSTROM:
        return ()
    warning = (
        f"The uploaded path leaves the straight line between its end points by up to {away:.2f} angstrom; "
        "the model sees the straight line."
    )
    return (warning,)


def concerted_hop_doubt(band: Band) -> str | None:
    """Why a band's barrier is in doubt where another of its ions hops as well; None where none does."""
    moved = _host_moves_angstrom(band)
    others = [
        moved[k] for k, symbol in enumerate(band.host_species) if symbol == band.ion and moved[k] > _HOPS_ANGSTROM
    ]
    if not others:
        return None
    return f"another {band.ion} moves by {max(others):.2f} angstrom, and hops of several ions at once are not predicted"


def image_order_doubt(band: Band) -> str | None:
    """Why a band's barrier is in doubt where its images go back along the hop: its first or last one may be another."""
    images, hop = band.image_frac_coords, band.hop_vector_angstrom
    along = (images - images[0]) @ band.lattice_angstrom @ hop / (hop @ hop)
    steps = np.diff(along)
    image = int(steps.argmin())
    if steps[image] >= -_TURNS_BACK:
        return None
    return f"the ion goes back from image {image} to {image + 1} (counted from 0): its images are not in order"


def _host_moves_angstrom(band: Band) -> FloatArray:
    """How far each host atom gets from its place in the first image, shape [n_host], angstrom."""
    hosts = band.relaxed_host_frac_coords
    if hosts is None:
        return np.zeros(len(band.host_species))
    return np.asarray(np.linalg.norm((hosts - hosts[0]) @ band.lattice_angstrom, axis=2).max(axis=0))


def _host_warnings(band: Band) -> Sequence[str]:
    moved = _host_moves_angstrom(band)
    far = np.flatnonzero(moved > DEVIATION_ANGSTROM)
    if not len(far):
        return ()
    atom = int(moved.argmax())
    count = f"{len(far)} host atoms move" if len(far) > 1 else "One host atom moves"
    warning = (
        f"{count} by more than {DEVIATION_ANGSTROM} angstrom besides the ion, {band.host_species[atom]} "
        f"(host atom {atom}) by {moved[atom]:.2f}; {band.ion}, which moves most, is taken as the migrating ion, "
        "and the model sees the first image's host."
    )
    return (warning,)
