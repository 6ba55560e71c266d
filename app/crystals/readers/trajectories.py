"""Files with one configuration or several: POSCARs, XDATCAR, extended XYZ, ASE's trajectory, XSF."""

from app.crystals.limits import Limits
from app.crystals.readers.ase_trajectory import read_ase_trajectory
from app.crystals.readers.extxyz import read_extxyz
from app.crystals.readers.frames import Frame
from app.crystals.readers.poscar import read_poscars, read_xdatcar
from app.crystals.readers.reading import File
from app.crystals.readers.text import Format, text_of
from app.crystals.readers.xcrysden import read_xsf

#: In messages.
NAMES = {
    "xyz": "an extended XYZ",
    "ase-trajectory": "an ASE trajectory",
    "xdatcar": "an XDATCAR",
    "xsf": "an XCrySDen file",
    "poscar": "a file of POSCARs",
}


def read_frames(file: File, kind: Format, limits: Limits) -> tuple[Frame, ...]:
    """Every configuration of a file.

    Args:
        file: of the crystal or band.
        kind: its format, one of NAMES.
        limits: how large it may be.

    Raises:
        FormatError: it cannot be read; `where` names the line or the image.
        InputError: its content is invalid.
        TooLargeError: atoms or images.
    """
    if kind == "ase-trajectory":
        return read_ase_trajectory(file, limits)
    if kind == "xyz":
        return read_extxyz(text_of(file), file.name, limits)
    if kind == "xdatcar":
        return read_xdatcar(text_of(file), file.name, limits)
    if kind == "xsf":
        return read_xsf(text_of(file), file.name, limits)
    return read_poscars(text_of(file), file.name, limits)
