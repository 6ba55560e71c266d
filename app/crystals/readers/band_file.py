"""A band from one file: JSON, a trajectory, or the zip or tar of an NEB folder."""

from dataclasses import replace

from app.crystals.limits import Limits
from app.crystals.readers.cif import cif_blocks
from app.crystals.readers.crystal_file import frame_of, read_frame
from app.crystals.readers.frames import band_of_frames
from app.crystals.readers.json_band import read_json_band
from app.crystals.readers.json_structures import json_crystals
from app.crystals.readers.neb_archive import listing, unpack_images
from app.crystals.readers.other_formats import refuse_other_json
from app.crystals.readers.packing import unpack
from app.crystals.readers.reading import File, Reading
from app.crystals.readers.structure_json import load_json
from app.crystals.readers.text import format_of, text_of
from app.crystals.readers.trajectories import read_frames, unused_cell_warnings
from app.errors import FormatError


def read_band_file(file: File, limits: Limits) -> Reading:
    """Read a band; the format is detected from the content.

    Raises:
        FormatError: not a band; kind "single-crystal" for a file of one structure.
        InputError: its content is invalid.
        TooLargeError: bytes, atoms, images or files.
    """
    file = unpack(file, limits)
    kind = format_of(file, limits)
    if kind == "json":
        return _read_json(file, limits)
    if kind in ("zip", "tar"):
        return _read_archive(file, limits)
    if kind == "cif":
        raise _not_a_band(file)
    frames = read_frames(file, kind, limits)
    if len(frames) == 1:
        raise _single_crystal(file.name)
    reading = band_of_frames(frames, limits)
    return replace(reading, warnings=(*unused_cell_warnings(file, kind), *reading.warnings))


def _read_json(file: File, limits: Limits) -> Reading:
    record = load_json(file.content, file.name)
    crystals = json_crystals(record, file.name, limits)
    if crystals is not None and len(crystals) == 1:
        raise _single_crystal(file.name)
    if crystals is not None:
        names = (f"{file.name}, structure {k}" for k in range(len(crystals)))
        return band_of_frames([frame_of(one, name) for one, name in zip(crystals, names, strict=True)], limits)
    refuse_other_json(record, file.name)
    if not isinstance(record, dict):
        raise FormatError(
            f"{file.name} is JSON, but not a band.",
            kind="not-a-band",
            where=file.name,
            expected="one object with lattice_angstrom, host_species, host_frac_coords, ion, image_frac_coords, or a "
            "list of pymatgen structures",
        )
    return read_json_band(record, limits)


def _read_archive(file: File, limits: Limits) -> Reading:
    images = unpack_images(file, limits)
    if len(images.files) == 1 and format_of(images.files[0], limits) not in ("zip", "tar"):
        reading = read_band_file(images.files[0], limits)
    else:
        reading = band_of_frames([read_frame(image, limits) for image in images.files], limits)
    beside = images.energies_ev if len(images.energies_ev) == len(reading.band.image_frac_coords) else ()
    return replace(reading, warnings=(*images.warnings, *reading.warnings), energies_ev=beside or reading.energies_ev)


def _not_a_band(file: File) -> FormatError:
    """The error for a CIF, of one structure or of several."""
    names = cif_blocks(text_of(file), file.name)
    if len(names) <= 1:
        return _single_crystal(file.name)
    return FormatError(
        f"{file.name} is a CIF of {len(names)} structures, {listing(names)}, and the images of a band are not read "
        "from one CIF.",
        kind="single-crystal",
        where=file.name,
        expected="a zip with a CIF for each image, numbered in order such as 00.cif; or one of the structures in the "
        "field `structure` with `ion`",
    )


def _single_crystal(name: str) -> FormatError:
    return FormatError(
        f"{name} is a single crystal; a band has two images or more.",
        kind="single-crystal",
        where=name,
        expected="a single crystal in the field `structure` with `ion`, two end points as `initial` and `final`",
    )
