"""Decoding of files, and detection of their format."""

import re
from collections.abc import Callable
from typing import Literal

from app.crystals.limits import Limits
from app.crystals.readers.neb_x import energies_alone, is_crd, is_energies, is_path, path_alone
from app.crystals.readers.numbers import NUMBER
from app.crystals.readers.other_formats import refuse_by_name, refuse_document, refuse_other_format
from app.crystals.readers.poscar import is_xdatcar
from app.crystals.readers.reading import File
from app.crystals.readers.siesta import is_xv
from app.crystals.readers.xcrysden import is_xsf
from app.errors import FormatError, UnsupportedError

Format = Literal[
    "zip",
    "tar",
    "json",
    "cif",
    "xyz",
    "poscar",
    "xdatcar",
    "ase-trajectory",
    "ase-database",
    "xsf",
    "vasprun",
    "outcar",
    "crd",
    "xv",
]

#: The atoms of Turbomole's coord begin like a scale and vectors.
_POSCAR = re.compile(
    rf"\A(?!\s*+\$coord\b)[^\n]*+\n[ \t]*+{NUMBER}(?:[ \t]++{NUMBER}[ \t]++{NUMBER})?[^\n]*+\n"
    rf"(?:[ \t]*+{NUMBER}[ \t]++{NUMBER}[ \t]++{NUMBER}[^\n]*+\n){{3}}"
)
_CIF = re.compile(r"^[ \t]*(?:data_|_cell_length_a\b|_atom_site_)", re.MULTILINE | re.IGNORECASE)
_XYZ = re.compile(r"\A\s*\d+[ \t]*\n")
_SQLITE = b"SQLite format 3\x00"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_ULM = (b"- of Ulm", b"AFFormat")
_VASPRUN = re.compile(r"\A(?:[^<]*<\?xml[^>]*>)?\s*<modeling>")
_OUTCAR = re.compile(r"\A\s*vasp\.\d")
_TAR = slice(257, 262)
_HEAD_CHARACTERS = 2_000
#: Texts that begin like no other, in the order in which they are asked: a POSCAR's title may begin with a bracket.
_SURE: dict[Format, Callable[[str], object]] = {
    "xdatcar": lambda text: _POSCAR.match(text) and is_xdatcar(text),
    "poscar": _POSCAR.match,
    "json": lambda text: text.lstrip()[:1] in ("{", "["),
    "xsf": is_xsf,
    "vasprun": lambda text: _VASPRUN.match(text[:_HEAD_CHARACTERS]),
    "outcar": lambda text: _OUTCAR.match(text[:_HEAD_CHARACTERS]),
    "crd": is_crd,
    "xv": is_xv,
}
#: Texts that other programs' files may look like as well: those are refused before.
_LIKELY: dict[Format, Callable[[str], object]] = {"xyz": _XYZ.match, "cif": _CIF.search}
#: Those of single files are unpacked before.
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}
_READ = (
    "a CIF, a POSCAR, CONTCAR or XDATCAR with element names, a vasprun.xml or OUTCAR, pymatgen or OPTIMADE JSON, an "
    "extended XYZ, an ASE trajectory or database, a JSON band, or a zip or tar of an NEB folder"
)


def format_of(file: File, limits: Limits) -> Format:
    """Detect a file's format from its content, never from its name alone.

    Raises:
        FormatError: kinds "empty-file", "not-a-crystal".
        UnsupportedError: kinds "packed-file", a packing that is not read; "format-not-read".
        TooLargeError: bytes.
    """
    limits.check_bytes(len(file.content), file.name)
    if not file.content.strip():
        raise FormatError(f"{file.name} is empty.", kind="empty-file", where=file.name, expected=_READ)
    return _format_by_magic(file) or _format_of_text(file, text_of(file))


def _format_by_magic(file: File) -> Format | None:
    """The format of bytes that are no text, or None."""
    if file.content.startswith(_ZIP):
        refuse_document(file)
        return "zip"
    if file.content[_TAR] == b"ustar":
        return "tar"
    if file.content.startswith(_ULM):
        return "ase-trajectory"
    if file.content.startswith(_SQLITE):
        return "ase-database"
    refuse_other_format(file, None)
    for magic, name in _PACKED.items():
        if file.content.startswith(magic):
            raise UnsupportedError(
                f"{file.name} is compressed with {name}.",
                kind="packed-file",
                where=file.name,
                expected="the uncompressed file, or one packed once with zip, gzip, xz or bzip2",
            )
    return None


def _format_of_text(file: File, text: str) -> Format:
    if is_energies(text):  # numbers alone, which begin like a POSCAR
        raise energies_alone(file.name)
    found = next((kind for kind, is_kind in _SURE.items() if is_kind(text)), None)
    if found is not None:
        return found
    if is_path(text):
        raise path_alone(file.name)
    refuse_other_format(file, text)
    found = next((kind for kind, is_kind in _LIKELY.items() if is_kind(text)), None)
    if found is not None:
        return found
    refuse_by_name(file)
    raise not_a_crystal(file)


def text_of(file: File) -> str:
    """Decode a file: UTF-8, UTF-16 with its mark, or Latin-1, in which old CIFs write authors' names.

    Raises:
        FormatError: kind "not-a-crystal", where the bytes are not text.
    """
    content = file.content
    try:
        encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text):
        raise not_a_crystal(file)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def not_a_crystal(file: File) -> FormatError:
    """The error for content in which no format is recognised."""
    return FormatError(
        f"{file.name} is not a crystal in any supported format.",
        kind="not-a-crystal",
        where=file.name,
        expected=_READ,
    )
