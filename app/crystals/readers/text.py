"""Decoding of files, and detection of their format."""

import re
from typing import Literal

from app.crystals.limits import Limits
from app.crystals.readers.other_formats import refuse_by_name, refuse_other_format
from app.crystals.readers.poscar import is_xdatcar
from app.crystals.readers.reading import File
from app.crystals.readers.xcrysden import is_xsf
from app.errors import FormatError, UnsupportedError

Format = Literal["zip", "tar", "json", "cif", "xyz", "poscar", "xdatcar", "ase-trajectory", "xsf"]

# Possessive quantifiers (++) do not backtrack; otherwise time grows with the cube of the number of digits.
_NUMBER = r"[+-]?+(?:\d++\.?+\d*+|\.\d++)(?:[eEdD][+-]?+\d++)?+"
_POSCAR = re.compile(
    rf"\A[^\n]*+\n[ \t]*+{_NUMBER}(?:[ \t]++{_NUMBER}[ \t]++{_NUMBER})?[^\n]*+\n"
    rf"(?:[ \t]*+{_NUMBER}[ \t]++{_NUMBER}[ \t]++{_NUMBER}[^\n]*+\n){{3}}"
)
_CIF = re.compile(r"^[ \t]*(?:data_|_cell_length_a\b|_atom_site_)", re.MULTILINE | re.IGNORECASE)
_XYZ = re.compile(r"\A\s*\d+[ \t]*\n")
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_ULM = (b"- of Ulm", b"AFFormat")
_TAR = slice(257, 262)
#: Those of single files are unpacked before.
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}
_READ = (
    "a CIF, a POSCAR, CONTCAR or XDATCAR with element names, pymatgen or OPTIMADE JSON, an extended XYZ, an ASE "
    "trajectory, a JSON band, or a zip or tar of an NEB folder"
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
        return "zip"
    if file.content[_TAR] == b"ustar":
        return "tar"
    if file.content.startswith(_ULM):
        return "ase-trajectory"
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
    if _POSCAR.match(text):  # before JSON: a title may begin with a bracket
        return "xdatcar" if is_xdatcar(text) else "poscar"
    if text.lstrip()[:1] in ("{", "["):
        return "json"
    if is_xsf(text):
        return "xsf"
    refuse_other_format(file, text)
    if _XYZ.match(text):
        return "xyz"
    if _CIF.search(text):
        return "cif"
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
