"""The zip of an NEB folder: 00..NN with POSCAR or CONTCAR, or numbered structure files; nothing is written to disk."""

import io
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import PurePosixPath

from app.crystals.limits import Limits
from app.crystals.readers.reading import File
from app.errors import FormatError, UnsupportedError

_ENDINGS = (".vasp", ".poscar", ".contcar", ".cif", ".json", ".xyz", ".extxyz")
_NUMBERED = re.compile(r"\d{1,4}")
_CHUNK_BYTES = 1 << 16
_MOST_SHOWN = 5
_ENCRYPTED_FLAG = 0x1
_EXPECTED = "folders 00, 01, .. NN with a POSCAR or CONTCAR each, or files numbered in order such as 00.vasp"


def unzip_images(file: File, limits: Limits) -> tuple[tuple[File, ...], tuple[str, ...]]:
    """The files of the images in order, CONTCAR preferred to POSCAR, and warnings.

    Names inside the zip are used only for sorting and selection, never as paths. A zip with one structure file gives
    that one.

    Raises:
        FormatError: kinds "broken-zip", "no-images", "several-bands".
        UnsupportedError: kind "encrypted-zip".
        TooLargeError: files or unpacked bytes, counted while unpacking.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            limits.check_files(len(members), file.name)
            chosen, warnings = _choose(members, file.name)
            return _unpack(archive, chosen, file.name, limits), warnings
    # Errors of zipfile for damaged bytes and (NotImplementedError) for unknown compression.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise FormatError(
            f"{file.name} is a broken zip, or its compression is not supported: {error}.",
            kind="broken-zip",
            where=file.name,
            expected="a zip as any zip program writes it",
        ) from error


def _choose(members: list[zipfile.ZipInfo], name: str) -> tuple[list[zipfile.ZipInfo], tuple[str, ...]]:
    if any(member.flag_bits & _ENCRYPTED_FLAG for member in members):
        raise UnsupportedError(
            f"{name} is encrypted.", kind="encrypted-zip", where=name, expected="a zip without a password"
        )
    candidates = [member for member in members if _is_structure(PurePosixPath(member.filename))]
    folders = _by_folder(candidates)
    _refuse_several(candidates if folders else (), name)
    images = folders or _by_number(candidates)
    if len(images) < 2 and len(candidates) == 1:  # noqa: PLR2004 - one file may hold the whole band
        return candidates, ()
    if not images:
        raise FormatError(f"{name} contains no images of a band.", kind="no-images", where=name, expected=_EXPECTED)
    numbers = sorted(images)
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers)) if numbers[-1] < len(members) * 10 else []
    shown = ", ".join(f"{number:02d}" for number in missing[:10])
    warnings = (f"{name} has no image {shown}: the band continues straight over the gap.",) if missing else ()
    return [images[number] for number in numbers], warnings


def _is_structure(path: PurePosixPath) -> bool:
    hidden = any(part == "__MACOSX" or part.startswith(".") for part in path.parts)
    name = path.name.upper()
    return not hidden and (name.startswith(("POSCAR", "CONTCAR")) or path.suffix.lower() in _ENDINGS)


def _by_folder(candidates: Iterable[zipfile.ZipInfo]) -> dict[int, zipfile.ZipInfo]:
    """Image number to file, for files in numbered folders."""
    found: dict[int, zipfile.ZipInfo] = {}
    for member in sorted(candidates, key=_preference):
        path = PurePosixPath(member.filename)
        if len(path.parts) > 1 and _NUMBERED.fullmatch(path.parts[-2]):
            found.setdefault(int(path.parts[-2]), member)
    return found


def _refuse_several(candidates: Iterable[zipfile.ZipInfo], name: str) -> None:
    """Refuse an image number in more than one place, so that bands are neither dropped silently nor mixed."""
    places: dict[int, set[str]] = {}
    for member in candidates:
        path = PurePosixPath(member.filename)
        if len(path.parts) > 1 and _NUMBERED.fullmatch(path.parts[-2]):
            places.setdefault(int(path.parts[-2]), set()).add(str(path.parents[1]))
    bands = sorted(set().union(*(found for found in places.values() if len(found) > 1)))
    if bands:
        shown = ", ".join(band[:60] for band in bands[:_MOST_SHOWN])
        raise FormatError(
            f"{name} contains {len(bands)} bands: {shown}{', ...' if len(bands) > _MOST_SHOWN else ''}.",
            kind="several-bands",
            where=name,
            expected="one band: the folder of one hop alone",
        )


def _preference(member: zipfile.ZipInfo) -> tuple[bool, int, str]:
    """Prefer VASP's own names, and files that are not empty: an interrupted run leaves an empty CONTCAR."""
    name = PurePosixPath(member.filename).name.upper()
    rank = 0 if name.startswith("CONTCAR") else 1 if name.startswith("POSCAR") else 2
    return member.file_size == 0, rank, member.filename


def _by_number(candidates: Iterable[zipfile.ZipInfo]) -> dict[int, zipfile.ZipInfo]:
    """Image number to file, for files with a number of their own, such as 00.vasp or POSCAR_01."""
    found: dict[int, zipfile.ZipInfo] = {}
    for member in sorted(candidates, key=_preference):
        name = PurePosixPath(member.filename).name
        numbers = re.findall(r"\d+", re.sub(r"\.[A-Za-z]+\Z", "", name))
        if numbers and len(numbers[-1]) <= 4:  # noqa: PLR2004 - a longer one is a date
            found.setdefault(int(numbers[-1]), member)
    return found


def _unpack(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], name: str, limits: Limits) -> tuple[File, ...]:
    total = 0
    files: list[File] = []
    limits.check_unpacked_bytes(sum(member.file_size for member in members), name)
    limits.check_images(len(members), name)
    for member in members:
        chunks: list[bytes] = []
        with archive.open(member) as stream:  # the size in the header may lie: count what comes out
            while chunk := stream.read(_CHUNK_BYTES):
                total += len(chunk)
                limits.check_unpacked_bytes(total, name)
                chunks.append(chunk)
        files.append(File(name=f"{name}: {member.filename[:100]}", content=b"".join(chunks)))
    return tuple(files)
