"""One crystal from one file: CIF, POSCAR, JSON of a structure, a run of VASP, or a single image of a trajectory."""

from dataclasses import replace

import numpy as np

from app.crystals.crystal import Crystal, Site
from app.crystals.limits import Limits
from app.crystals.readers.cif import cif_blocks, read_cif
from app.crystals.readers.frames import Frame, is_trajectory
from app.crystals.readers.json_structures import json_crystals
from app.crystals.readers.neb_archive import listing, structure_names, unpack_single
from app.crystals.readers.other_formats import refuse_other_json
from app.crystals.readers.packing import unpack
from app.crystals.readers.reading import File
from app.crystals.readers.structure_json import load_json
from app.crystals.readers.text import Format, format_of, text_of
from app.crystals.readers.trajectories import (
    NAMES,
    RUNS,
    STARTS,
    TRAJECTORIES,
    is_run,
    read_end,
    read_frames,
    read_start,
    sample_frames,
    unused_cell_warnings,
)
from app.crystals.validation import check_cell, check_contacts, check_coordinates, check_density
from app.errors import FormatError, InputError, TooLargeError


def structures_in(file: File, limits: Limits) -> tuple[str, ...]:
    """Names of the structures of a CIF with several, packed or alone in an archive too; none of any other file.

    Raises:
        InputError: as `read_crystal`, where the file cannot be read at all.
    """
    file = unpack(file, limits)
    kind = format_of(file, limits)
    if kind in ("zip", "tar"):
        single = unpack_single(file, limits)
        if single is None:
            return ()
        file, kind = single, format_of(single, limits)
    if kind != "cif":
        return ()
    text = text_of(file)
    if text.lower().count("data_") <= 1:  # nearly every file, which need not be parsed for it
        return ()
    names = cif_blocks(text, file.name)
    return names if len(names) > 1 else ()


def holds_trajectory(file: File, limits: Limits) -> bool:
    """Whether a file has configurations of one crystal in which no ion hops, of which `read_crystal` reads one.

    False of a file that cannot be read; what is wrong with it, reading it says.
    """
    try:
        file = unpack(file, limits)
        kind = format_of(file, limits)
        single = unpack_single(file, limits) if kind in ("zip", "tar") else None
        if single is not None:
            file, kind = single, format_of(single, limits)
        if kind in TRAJECTORIES:
            frames = sample_frames(file, kind, limits).frames
        elif kind in STARTS | RUNS:
            frames = read_frames(file, kind, limits)
        else:
            return False
        return is_trajectory(frames)
    except TooLargeError as error:
        return error.kind == "too-many-images"  # no band
    except InputError:
        return False


def read_crystal(file: File, limits: Limits, ion: str | None = None, *, number: int | None = None) -> Crystal:
    """Read a crystal, its partly occupied sites kept, charges dropped, deuterium as hydrogen.

    Args:
        file: of one crystal.
        limits: how large it may be.
        ion: the migrating ion, where it is known: of a file of several crystals, the first that holds it is read.
        number: of the structure to read, its index in `structures_in`; None chooses.

    Raises:
        FormatError: not a crystal ("not-a-crystal", "truncated-cif", "band-not-crystal", ...).
        InputError: it is invalid ("unknown-element", "not-a-cell", "atoms-overlap", ...).
        TooLargeError: bytes or atoms.
    """
    crystal = _read(file, limits, ion, number=number)
    return replace(crystal, warnings=(*crystal.warnings, *check_contacts(crystal, file.name)))


def read_ordered_crystal(file: File, limits: Limits) -> Crystal:
    """Read a crystal with one element on every site.

    Raises:
        InputError: kind "mixed-sites", naming each site; and what `read_crystal` raises.
    """
    crystal = read_crystal(file, limits)
    _check_order(crystal, file.name, "Its bulk properties depend on which atom is where.")
    return crystal


def read_frame(file: File, limits: Limits) -> Frame:
    """Read a crystal as one image of a band: every site filled by one element.

    Overlaps are left to the band's validation: on its way between the end points an ion may pass near an atom.

    Raises:
        InputError: kind "mixed-sites", naming each site; and what `read_crystal` raises but "atoms-overlap".
    """
    return frame_of(_read(file, limits, image_of_a_band=True), file.name)


def frame_of(crystal: Crystal, name: str) -> Frame:
    """A crystal as one image of a band.

    Raises:
        InputError: kind "mixed-sites", naming each site.
    """
    _check_order(crystal, name, "An image of a band has whole atoms.")
    return Frame(
        lattice_angstrom=crystal.lattice_angstrom,
        species=tuple(site.species[0][0] for site in crystal.sites),
        frac_coords=np.array([site.frac_coords for site in crystal.sites]),
        name=name,
        warnings=crystal.warnings,
        energy_ev=crystal.energy_ev,
    )


def _read(
    file: File,
    limits: Limits,
    ion: str | None = None,
    *,
    image_of_a_band: bool = False,
    number: int | None = None,
) -> Crystal:
    file = unpack(file, limits)
    kind = format_of(file, limits)
    crystal = _parse(file, kind, limits, ion, image_of_a_band=image_of_a_band, number=number)
    crystal = replace(crystal, warnings=(*unused_cell_warnings(file, kind), *crystal.warnings))
    check_cell(crystal.lattice_angstrom, f"{file.name}, the cell")
    occupied = sum(occupancy for site in crystal.sites for _, occupancy in site.species)
    check_density(crystal.lattice_angstrom, f"{file.name}, the cell", atoms=occupied, sites=len(crystal.sites))
    check_coordinates(np.array([site.frac_coords for site in crystal.sites]), f"{file.name}, atoms")
    return crystal


def _parse(
    file: File, kind: Format, limits: Limits, ion: str | None, *, image_of_a_band: bool, number: int | None = None
) -> Crystal:
    if kind in ("zip", "tar"):
        return _from_archive(file, kind, limits, ion, image_of_a_band=image_of_a_band, number=number)
    if kind == "json":
        return _from_json(file, limits)
    if kind == "cif":
        return read_cif(file, text_of(file), limits, ion, every_atom_listed=image_of_a_band, number=number)
    return _from_frames(file, kind, limits, image_of_a_band=image_of_a_band)


def _from_frames(file: File, kind: Format, limits: Limits, *, image_of_a_band: bool) -> Crystal:
    if kind in STARTS and not image_of_a_band:
        start = read_start(file, kind, limits)
        return _noted(start.frame, start.count, _FIRST, NAMES[kind], file.name)
    if kind in RUNS:
        end = read_end(file, kind, limits)
        return _noted(end.frame, 1 if image_of_a_band else end.count, _LAST, NAMES[kind], file.name)
    if kind in TRAJECTORIES and not image_of_a_band:
        sample = sample_frames(file, kind, limits)
        if sample.count > 1 and not is_trajectory(sample.frames):
            raise _band_not_crystal(file.name, f"{NAMES[kind]} of {sample.count} frames")
        return _noted(sample.frames[-1], sample.count, _LAST_FRAME, NAMES[kind], file.name)
    frames = read_frames(file, kind, limits)
    if image_of_a_band and is_run(file, kind):
        return _crystal(frames[-1])
    if len(frames) > 1:
        raise _band_not_crystal(file.name, f"{NAMES[kind]} of {len(frames)} frames")
    return _crystal(frames[0])


def _from_archive(
    file: File, kind: str, limits: Limits, ion: str | None, *, image_of_a_band: bool, number: int | None
) -> Crystal:
    """The crystal that is alone in an archive, also as the files of one run."""
    single = None if image_of_a_band else unpack_single(file, limits)
    names = structure_names(file, limits) if single is None else ()
    if len(names) > 1 and not image_of_a_band:
        raise FormatError(
            f"{file.name} is a {kind} of {len(names)} structures, {listing(names)}, and one crystal belongs here.",
            kind="band-not-crystal",
            where=file.name,
            expected="one of them alone; the images of a band in the field `band`; many crystals with `ionpath screen`",
        )
    inner = None if single is None else format_of(single, limits)
    if single is None or inner is None or inner in ("zip", "tar"):
        raise _band_not_crystal(file.name, f"a {kind}")
    return _parse(single, inner, limits, ion, image_of_a_band=False, number=number)


def _from_json(file: File, limits: Limits) -> Crystal:
    record = load_json(file.content, file.name)
    crystals = json_crystals(record, file.name, limits)
    if crystals is None and (isinstance(record, list) or (isinstance(record, dict) and "image_frac_coords" in record)):
        raise _band_not_crystal(file.name, "a JSON band")
    if crystals is None:
        refuse_other_json(record, file.name)
        raise FormatError(
            f"{file.name} is JSON, and no crystal.",
            kind="not-a-crystal",
            where=file.name,
            expected="pymatgen's Structure.as_dict(), with lattice and sites, or an OPTIMADE structure",
        )
    if len(crystals) > 1:
        raise _band_not_crystal(file.name, f"a list of {len(crystals)} structures")
    return crystals[0]


#: VASP appends configurations to a file that is a crystal's: the first is read, and the others are named.
_FIRST = (
    "configurations, and the first was read as the crystal. If they are the images of a band, send the file in the "
    "field `band`; of a relaxation, send the last one alone."
)
#: A relaxation ends with its result.
_LAST = (
    "ionic steps, and the last was read as the crystal. If they are the images of a band, send the file in the field "
    "`band`."
)

#: A trajectory ends with its result as well, and no ion hops in it.
_LAST_FRAME = (
    "frames that show no hop, and the last was read as the crystal. The images of a hop go into the field `band`; on "
    "the command line, leave out --ion."
)


def _noted(frame: Frame, count: int, which: str, what: str, name: str) -> Crystal:
    crystal = _crystal(frame)
    warning = (f"{name} is {what} of {count} {which}",) if count > 1 else ()
    return replace(crystal, warnings=(*crystal.warnings, *warning))


def _band_not_crystal(name: str, what: str) -> FormatError:
    return FormatError(
        f"{name} is {what}, and one crystal belongs here.",
        kind="band-not-crystal",
        where=name,
        expected="a band in the field `band`; here a CIF, POSCAR, pymatgen JSON or another file of one crystal",
    )


def _crystal(frame: Frame) -> Crystal:
    return Crystal(
        lattice_angstrom=frame.lattice_angstrom,
        sites=tuple(
            Site(species=((symbol, 1.0),), frac_coords=(float(x), float(y), float(z)))
            for symbol, (x, y, z) in zip(frame.species, frame.frac_coords, strict=True)
        ),
        warnings=frame.warnings,
        energy_ev=frame.energy_ev,
    )


def _check_order(crystal: Crystal, name: str, why: str) -> None:
    """Refuse shared and partly empty sites, naming each."""
    mixed = [
        "/".join(f"{symbol} {occupancy:.3g}" for symbol, occupancy in site.species)
        + " at "
        + ", ".join(f"{value:.4f}" for value in site.frac_coords)
        for site in crystal.sites
        if not site.is_ordered
    ]
    if not mixed:
        return
    shown = "; ".join(mixed[:10]) + (f"; and {len(mixed) - 10} more" if len(mixed) > 10 else "")  # noqa: PLR2004
    raise InputError(
        f"{name} has sites that are mixed or partly occupied: {shown}. {why}",
        kind="mixed-sites",
        where=name,
        expected="an ordered structure, each site filled by one element",
    )
