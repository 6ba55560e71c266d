"""Files named on the command line, as what is uploaded: bands, end points, crystals."""

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from app.crystals.limits import Limits
from app.crystals.readers import File, holds_trajectory
from app.crystals.readers.given_cell import parse_cell
from app.errors import InputError

CRYSTAL_SUFFIXES = frozenset({".cif", ".vasp", ".poscar"})
#: What a folder of images may hold beside these: those of ASE, and of Quantum ESPRESSO's and CP2K's NEB.
_IMAGE_SUFFIXES = CRYSTAL_SUFFIXES | {".xyz", ".extxyz", ".traj", ".xsf", ".axsf", ".crd", ".path"}
CRYSTAL_NAMES = ("POSCAR", "CONTCAR", "CHGCAR", "LOCPOT")
#: Runs of VASP: of a crystal where an ion is named, else of a band.
_RUN_NAMES = ("VASPRUN", "OUTCAR")
_PACKED_SUFFIXES = frozenset({".gz", ".xz", ".bz2"})
#: pymatgen's or OPTIMADE's structures; and, of these and of others, a band or a list.
_STRUCTURE_JSON = re.compile(rb'"sites"\s*:|"cartesian_site_positions"\s*:')
_BAND_JSON = re.compile(rb'\A\s*\[|"lattice_angstrom"|"nextid"|"data"\s*:\s*\[')
_NEB_FILES = frozenset({"POSCAR", "CONTCAR", "INCAR"})
#: Beside images: files of which some lines alone are wanted.
_OUTCAR = "OUTCAR"
_OUTCAR_LINES = (b"vasp.", b"energy  without entropy=")


class SourceError(Exception):
    """The files named do not make an upload."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One upload: the files of a form by their field, and the ion and the cell where they were named.

    Attributes:
        folder: the one that was packed, as it was typed.
    """

    label: str
    files: dict[str, tuple[str, bytes]]
    ion: str | None
    cell: str | None = None
    folder: Path | None = None

    @property
    def texts(self) -> dict[str, str]:
        """The texts of the form; a band says by itself which ion moves."""
        given = {"ion": None if "band" in self.files else self.ion, "cell": self.cell}
        return {name: text for name, text in given.items() if text}

    @property
    def other_way(self) -> "Source | None":
        """The same file as a crystal in place of a band, or the reverse; None where it can be one alone."""
        if "band" in self.files and self.ion:
            return replace(self, files={"structure": self.files["band"]})
        return replace(self, files={"band": self.files["structure"]}) if "structure" in self.files else None


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A file that was named and cannot be read, and why; it stops no other."""

    label: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Input:
    """What was named on the command line, to be read from disk when its turn comes.

    Attributes:
        label: its name in every output.
        load: reads it; OSError where that fails.
    """

    label: str
    load: Callable[[], Source]

    def read(self) -> Source | Unreadable:
        """Read it from disk."""
        try:
            return self.load()
        except OSError as error:
            return Unreadable(label=self.label, detail=f"{error.filename} cannot be read: {error.strerror}.")


def inputs_of(
    paths: Sequence[Path], *, ion: str | None, initial: Path | None, final: Path | None, cell: str | None = None
) -> list[Input]:
    """The inputs that were named; nothing is read yet. A folder of an NEB run is one, sent as a zip.

    Raises:
        SourceError: nothing to predict, or one end point alone.
    """
    inputs = [Input(label=path.name, load=partial(_source, path, ion, cell)) for path in paths]
    if (initial is None) != (final is None):
        raise SourceError("Two end points are needed: --initial and --final.")
    if initial is not None and final is not None:
        label = f"{initial.name} -> {final.name}"
        inputs.append(Input(label=label, load=partial(_end_points, label, (initial, final), ion, cell)))
    if not inputs:
        raise SourceError("Nothing to predict: name a FILE, or --initial and --final.")
    return inputs


def crystals_of(paths: Sequence[Path], *, ion: str | None = None, cell: str | None = None) -> list[Input]:
    """The same of files that are crystals, whatever they are called.

    Raises:
        SourceError: nothing to predict, or a folder.
    """
    folders = [path for path in paths if path.is_dir()]
    if folders or not paths:
        raise SourceError(
            f"{folders[0]} is a folder, not a crystal's file." if folders else "Nothing to predict: name a FILE."
        )
    return [Input(label=path.name, load=partial(_crystal, path, ion, cell)) for path in paths]


def _source(path: Path, ion: str | None, cell: str | None) -> Source:
    if path.is_dir():
        # named as it was typed, for errors; but a service need not know where it lies
        name = path.name if path.is_absolute() else str(path)
        return Source(label=path.name, files={"band": (name, _zipped(path))}, ion=ion, cell=cell, folder=path)
    if _is_crystal(path, ion):
        return _crystal(path, ion, cell)
    name, content = _file(path)
    field = "structure" if ion is not None and _holds_trajectory(name, content, cell) else "band"
    return Source(label=path.name, files={field: (name, content)}, ion=ion, cell=cell)


def _holds_trajectory(name: str, content: bytes, cell: str | None) -> bool:
    """Whether a file has frames of a crystal through which the ion of the command is to hop, and no hop by itself."""
    try:
        given = parse_cell(cell, "--cell") if cell else None
    except InputError:  # which is said where the file is sent
        return False
    return holds_trajectory(File(name=name, content=content, cell_angstrom=given), Limits())


def _crystal(path: Path, ion: str | None, cell: str | None) -> Source:
    return Source(label=path.name, files={"structure": _file(path)}, ion=ion, cell=cell)


def _end_points(label: str, ends: tuple[Path, Path], ion: str | None, cell: str | None) -> Source:
    files = {name: _file(path) for name, path in zip(("initial", "final"), ends, strict=True)}
    return Source(label=label, files=files, ion=ion, cell=cell)


def _is_crystal(path: Path, ion: str | None) -> bool:
    name = _plain(path)
    if name.name.upper().startswith(_RUN_NAMES):
        return ion is not None
    if name.suffix.lower() == ".json":
        content = path.read_bytes()
        return _STRUCTURE_JSON.search(content) is not None and _BAND_JSON.search(content) is None
    return name.suffix.lower() in CRYSTAL_SUFFIXES or name.name.startswith(CRYSTAL_NAMES)


def _plain(path: Path) -> Path:
    """A name without the ending of a packing."""
    return path.with_suffix("") if path.suffix.lower() in _PACKED_SUFFIXES else path


def _file(path: Path) -> tuple[str, bytes]:
    return path.name, path.read_bytes()


def _zipped(folder: Path) -> bytes:
    """Only what describes the images and their energies: an NEB folder may hold gigabytes of wave functions."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            plain, name = _plain(path), path.relative_to(folder).as_posix()
            if not path.is_file():
                continue
            if plain.name in _NEB_FILES or plain.suffix.lower() in _IMAGE_SUFFIXES:
                archive.write(path, name)
            elif path.name == _OUTCAR:
                archive.writestr(name, _energies(path))
    return buffer.getvalue()


def _energies(outcar: Path) -> bytes:
    """Of an OUTCAR, which may have hundreds of megabytes, what is read beside an image: the energies of its steps."""
    with outcar.open("rb") as lines:
        return b"".join(line for line in lines if line.lstrip().startswith(_OUTCAR_LINES))
