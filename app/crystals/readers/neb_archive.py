"""The zip or tar of an NEB folder: 00..NN with POSCAR or CONTCAR, or numbered files; nothing is written to disk."""

import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import IO

from app.crystals.limits import Limits
from app.crystals.readers.packing import plain_name, unpack
from app.crystals.readers.reading import File
from app.errors import FormatError, UnsupportedError

_ENDINGS = (".vasp", ".poscar", ".contcar", ".cif", ".json", ".xyz", ".extxyz", ".traj", ".xsf", ".axsf")
_NUMBERED = re.compile(r"(?:(?:image|img|neb)[_-]?)?(\d{1,4})", re.IGNORECASE)
_INITIAL = ("initial", "ini", "start", "is")
_FINAL = ("final", "fin", "end", "fs")
#: Before and after every number.
_FIRST, _LAST = -1, 100_000
_CHUNK_BYTES = 1 << 16
_MOST_SHOWN = 5
_ENCRYPTED_FLAG = 0x1
_EXPECTED = (
    "folders 00, 01, .. NN (or image_0 .., or initial and final) with a POSCAR or CONTCAR each, or files numbered in "
    "order such as 00.vasp"
)


@dataclass(frozen=True, kw_only=True)
class _Member:
    """A file in an archive.

    Attributes:
        path: its name there.
        size_bytes: as the archive says.
        is_encrypted: whether it needs a password.
        open: what comes out of it.
    """

    path: PurePosixPath
    size_bytes: int
    is_encrypted: bool
    open: Callable[[], IO[bytes]]


def unpack_images(file: File, limits: Limits) -> tuple[tuple[File, ...], tuple[str, ...]]:
    """The files of the images in order, CONTCAR preferred to POSCAR, and warnings.

    Names inside the archive are used only for sorting and selection, never as paths; links are left out. An archive
    with one structure file gives that one. Files that are packed with gzip, xz or bzip2 are unpacked.

    Raises:
        FormatError: kinds "broken-zip", "no-images", "several-bands".
        UnsupportedError: kind "encrypted-zip".
        TooLargeError: files or unpacked bytes, counted while unpacking.
    """
    is_zip = file.content.startswith(b"PK")
    try:
        with ExitStack() as stack:
            members = (_zip_members if is_zip else _tar_members)(file, limits, stack)
            limits.check_files(len(members), file.name)
            chosen, warnings = _choose(members, file.name)
            return _unpack(chosen, file.name, limits), warnings
    # Errors of zipfile and tarfile for damaged bytes and (NotImplementedError) for unknown compression.
    except _BROKEN as error:
        raise FormatError(
            f"{file.name} is a broken {'zip' if is_zip else 'tar'}, or its compression is not supported: {error}.",
            kind="broken-zip",
            where=file.name,
            expected="an archive as any zip or tar program writes it",
        ) from error


_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, ValueError, OSError),
    lzma.LZMAError,
)


def _zip_members(file: File, limits: Limits, stack: ExitStack) -> list[_Member]:
    del limits
    archive = stack.enter_context(zipfile.ZipFile(io.BytesIO(file.content)))
    return [
        _Member(
            path=PurePosixPath(member.filename),
            size_bytes=member.file_size,
            is_encrypted=bool(member.flag_bits & _ENCRYPTED_FLAG),
            open=partial(archive.open, member),
        )
        for member in archive.infolist()
        if not member.is_dir()
    ]


def _tar_members(file: File, limits: Limits, stack: ExitStack) -> list[_Member]:
    archive = stack.enter_context(tarfile.TarFile(fileobj=io.BytesIO(file.content)))
    members = []
    for member in archive:
        if member.isfile():
            opened = partial(_opened, archive, member)
            path = PurePosixPath(member.name)
            members.append(_Member(path=path, size_bytes=member.size, is_encrypted=False, open=opened))
            limits.check_files(len(members), file.name)
    return members


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    assert stream is not None  # it is a file
    return stream


def _choose(members: list[_Member], name: str) -> tuple[list[_Member], tuple[str, ...]]:
    if any(member.is_encrypted for member in members):
        raise UnsupportedError(
            f"{name} is encrypted.", kind="encrypted-zip", where=name, expected="a zip without a password"
        )
    candidates = [member for member in members if _is_structure(member.path)]
    folders = _by_folder(candidates)
    _refuse_several(candidates if folders else (), name)
    images = folders or _by_number(candidates)
    if len(images) < 2 and len(candidates) == 1:  # noqa: PLR2004 - one file may hold the whole band
        return candidates, ()
    if not images:
        raise FormatError(f"{name} contains no images of a band.", kind="no-images", where=name, expected=_EXPECTED)
    numbers = sorted(number for number in images if number not in (_FIRST, _LAST))
    spanned = bool(numbers) and numbers[-1] < len(members) * 10
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers)) if spanned else []
    shown = ", ".join(f"{number:02d}" for number in missing[:10])
    warnings = (f"{name} has no image {shown}: the band continues straight over the gap.",) if missing else ()
    return [images[number] for number in sorted(images)], warnings


def _is_structure(path: PurePosixPath) -> bool:
    hidden = any(part == "__MACOSX" or part.startswith(".") for part in path.parts)
    name = plain_name(path.name)
    return not hidden and (
        name.upper().startswith(("POSCAR", "CONTCAR", "XDATCAR")) or PurePosixPath(name).suffix.lower() in _ENDINGS
    )


def _image_number(name: str) -> int | None:
    """The number of an image by its folder's name: 03, image_3, or initial and final, the first and the last."""
    if match := _NUMBERED.fullmatch(name):
        return int(match[1])
    lowered = name.lower()
    return _FIRST if lowered in _INITIAL else _LAST if lowered in _FINAL else None


def _by_folder(candidates: Iterable[_Member]) -> dict[int, _Member]:
    """Image number to file, for files in folders that are named as images."""
    found: dict[int, _Member] = {}
    for member in sorted(candidates, key=_preference):
        number = _image_number(member.path.parts[-2]) if len(member.path.parts) > 1 else None
        if number is not None:
            found.setdefault(number, member)
    return found


def _refuse_several(candidates: Iterable[_Member], name: str) -> None:
    """Refuse an image number in more than one place, so that bands are neither dropped silently nor mixed."""
    places: dict[int, set[str]] = {}
    for member in candidates:
        number = _image_number(member.path.parts[-2]) if len(member.path.parts) > 1 else None
        if number is not None:
            places.setdefault(number, set()).add(str(member.path.parents[1]))
    bands = sorted(set().union(*(found for found in places.values() if len(found) > 1)))
    if bands:
        shown = ", ".join(band[:60] for band in bands[:_MOST_SHOWN])
        raise FormatError(
            f"{name} contains {len(bands)} bands: {shown}{', ...' if len(bands) > _MOST_SHOWN else ''}.",
            kind="several-bands",
            where=name,
            expected="one band: the folder of one hop alone",
        )


def _preference(member: _Member) -> tuple[bool, int, str]:
    """Prefer VASP's own names, and files that are not empty: an interrupted run leaves an empty CONTCAR."""
    name = member.path.name.upper()
    rank = 0 if name.startswith("CONTCAR") else 1 if name.startswith("POSCAR") else 2
    return member.size_bytes == 0, rank, str(member.path)


def _by_number(candidates: Iterable[_Member]) -> dict[int, _Member]:
    """Image number to file, for files with a number of their own, such as 00.vasp, POSCAR_01 or initial.cif."""
    found: dict[int, _Member] = {}
    for member in sorted(candidates, key=_preference):
        stem = re.sub(r"\.[A-Za-z]+\Z", "", plain_name(member.path.name))
        words = re.split(r"[^a-z]+", stem.lower())
        numbers = re.findall(r"\d+", stem)
        if any(word in words for word in _INITIAL):
            found.setdefault(_FIRST, member)
        elif any(word in words for word in _FINAL):
            found.setdefault(_LAST, member)
        elif numbers and len(numbers[-1]) <= 4:  # noqa: PLR2004 - a longer one is a date
            found.setdefault(int(numbers[-1]), member)
    return found


def _unpack(members: list[_Member], name: str, limits: Limits) -> tuple[File, ...]:
    total = 0
    files: list[File] = []
    limits.check_unpacked_bytes(sum(member.size_bytes for member in members), name)
    limits.check_images(len(members), name)
    for member in members:
        chunks: list[bytes] = []
        with member.open() as stream:  # the size in the header may lie: count what comes out
            while chunk := stream.read(_CHUNK_BYTES):
                total += len(chunk)
                limits.check_unpacked_bytes(total, name)
                chunks.append(chunk)
        packed = File(name=f"{name}: {str(member.path)[:100]}", content=b"".join(chunks))
        file = unpack(packed, limits, already_bytes=total)
        total += len(file.content) if file is not packed else 0
        files.append(file)
    return tuple(files)
