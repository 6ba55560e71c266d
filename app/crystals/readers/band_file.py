"""A band from one file: JSON band, extended XYZ, or the zip of an NEB folder."""

from app.crystals.limits import Limits
from app.crystals.readers.crystal_file import read_frame
from app.crystals.readers.extxyz import read_extxyz
from app.crystals.readers.frames import band_of_frames
from app.crystals.readers.json_band import read_json_band
from app.crystals.readers.neb_zip import unzip_images
from app.crystals.readers.reading import File, Reading
from app.crystals.readers.structure_json import is_structure, load_json
from app.crystals.readers.text import format_of, text_of
from app.errors import FormatError


def read_band_file(file: File, limits: Limits) -> Reading:
    """Read a band; the format is detected from the content.

    Raises:
        FormatError: not a band; kind "single-crystal" for a file of one structure.
        InputError: its content is invalid.
        TooLargeError: bytes, atoms, images or files.
    """
    kind = format_of(file, limits)
    if kind == "json":
        record = load_json(file.content, file.name)
        if is_structure(record):
            raise _single_crystal(file.name)
        if not isinstance(record, dict):
            raise FormatError(
                f"{file.name} is JSON, but not a band.",
                kind="not-a-band",
                where=file.name,
                expected="one object with lattice_angstrom, host_species, host_frac_coords, ion, image_frac_coords",
            )
        return read_json_band(record, limits)
    if kind == "xyz":
        return band_of_frames(read_extxyz(text_of(file), file.name, limits), limits)
    if kind == "zip":
        return _read_zip(file, limits)
    raise _single_crystal(file.name)


def _read_zip(file: File, limits: Limits) -> Reading:
    images, warnings = unzip_images(file, limits)
    if len(images) == 1 and format_of(images[0], limits) in ("xyz", "json"):
        reading = read_band_file(images[0], limits)
    else:
        reading = band_of_frames([read_frame(image, limits) for image in images], limits)
    return Reading(band=reading.band, warnings=(*warnings, *reading.warnings))


def _single_crystal(name: str) -> FormatError:
    return FormatError(
        f"{name} is a single crystal; a band has two images or more.",
        kind="single-crystal",
        where=name,
        expected="a single crystal in the field `structure` with `ion`, two end points as `initial` and `final`",
    )
