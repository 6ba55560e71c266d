"""Files with one configuration or several: POSCARs, runs of VASP, XYZ, ASE's trajectory and database, XSF, neb.x."""

from collections.abc import Callable
from dataclasses import dataclass

from app.crystals.limits import Limits
from app.crystals.readers.ase_database import read_ase_database
from app.crystals.readers.ase_trajectory import read_ase_trajectory, sample_ase_trajectory
from app.crystals.readers.extxyz import is_cp2k, read_extxyz, sample_extxyz
from app.crystals.readers.frames import Frame, FrameSample
from app.crystals.readers.neb_x import has_cell, read_crd
from app.crystals.readers.poscar import configuration_count, read_poscars, read_xdatcar
from app.crystals.readers.reading import File
from app.crystals.readers.siesta import read_xv
from app.crystals.readers.text import Format, text_of
from app.crystals.readers.vasp_output import read_outcar, read_vasprun
from app.crystals.readers.xcrysden import read_xsf

#: In messages.
NAMES: dict[Format, str] = {
    "xyz": "an XYZ",
    "ase-trajectory": "an ASE trajectory",
    "ase-database": "an ASE database",
    "xdatcar": "an XDATCAR",
    "xsf": "an XCrySDen file",
    "poscar": "a file of POSCARs",
    "vasprun": "a vasprun.xml",
    "outcar": "an OUTCAR",
    "crd": "a .crd or an input of neb.x",
    "xv": "an XV of SIESTA",
}
#: Formats of which one structure is often wanted of the many that they hold: the first, or that of the last step.
STARTS: frozenset[Format] = frozenset({"poscar", "xdatcar"})
RUNS: frozenset[Format] = frozenset({"vasprun", "outcar"})
#: Formats in which a band's images, a relaxation and molecular dynamics look alike: what moves tells.
TRAJECTORIES: frozenset[Format] = frozenset({"xyz", "ase-trajectory"})


_READERS: dict[Format, Callable[[File, Limits], tuple[Frame, ...]]] = {
    "xyz": lambda file, limits: read_extxyz(text_of(file), file.name, limits, file.cell_angstrom),
    "ase-trajectory": read_ase_trajectory,
    "ase-database": read_ase_database,
    "xdatcar": lambda file, limits: read_xdatcar(text_of(file), file.name, limits),
    "xsf": lambda file, limits: read_xsf(text_of(file), file.name, limits),
    "poscar": lambda file, limits: read_poscars(text_of(file), file.name, limits),
    "vasprun": lambda file, limits: read_vasprun(text_of(file), file.name, limits).frames,
    "outcar": lambda file, limits: read_outcar(text_of(file), file.name, limits).frames,
    "crd": lambda file, limits: read_crd(text_of(file), file.name, limits, file.cell_angstrom),
    "xv": lambda file, limits: read_xv(text_of(file), file.name, limits),
}


@dataclass(frozen=True, kw_only=True)
class OneOfMany:
    """A configuration, and how many its file has."""

    frame: Frame
    count: int


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
    return _READERS[kind](file, limits)


def read_start(file: File, kind: Format, limits: Limits) -> OneOfMany:
    """The first configuration of a file of POSCARs or an XDATCAR.

    Raises:
        FormatError, InputError, TooLargeError: as `read_frames`.
    """
    text = text_of(file)
    if kind == "xdatcar":
        (frame,) = read_xdatcar(text, file.name, limits, first_alone=True)
        return OneOfMany(frame=frame, count=configuration_count(text))
    frames = read_poscars(text, file.name, limits)
    return OneOfMany(frame=frames[0], count=len(frames))


def read_end(file: File, kind: Format, limits: Limits) -> OneOfMany:
    """The last ionic step of a vasprun.xml or OUTCAR.

    Raises:
        FormatError, InputError, TooLargeError: as `read_frames`.
    """
    steps = (read_vasprun if kind == "vasprun" else read_outcar)(text_of(file), file.name, limits, last_alone=True)
    return OneOfMany(frame=steps.frames[-1], count=steps.count)


def sample_frames(file: File, kind: Format, limits: Limits) -> FrameSample:
    """As many configurations of one of TRAJECTORIES as a band may have, evenly spread, and the number of all.

    Raises:
        FormatError, InputError, TooLargeError: as `read_frames`, but of the images' number.
    """
    if kind == "xyz":
        return sample_extxyz(text_of(file), file.name, limits, file.cell_angstrom)
    return sample_ase_trajectory(file, limits)


def is_run(file: File, kind: Format) -> bool:
    """Whether a file's configurations are the steps of a run, of which the last is the result."""
    return kind in RUNS or (kind == "xyz" and is_cp2k(text_of(file)))


def unused_cell_warnings(file: File, kind: Format) -> tuple[str, ...]:
    """Say that a cell was sent beside a file that has its own."""
    if file.cell_angstrom is None or kind in ("zip", "tar"):
        return ()
    if kind == "crd" and not has_cell(text_of(file)):
        return ()
    if kind == "xyz" and "lattice" not in text_of(file).lower():
        return ()
    return ("The cell that was sent beside the file was not used: the file has its own.",)
