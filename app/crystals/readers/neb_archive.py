"""The images of a band in a zip or tar, by folders 00 to NN or numbered files, and their energies; or one crystal."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from app.crystals.limits import Limits
from app.crystals.readers.archive import Archive, Member, open_archive
from app.crystals.readers.neb_x import is_path, path_energies_ev
from app.crystals.readers.packing import plain_name
from app.crystals.readers.reading import File
from app.crystals.readers.text import format_of, text_of
from app.crystals.readers.vasp_output import outcar_energy_ev
from app.errors import FormatError, InputError

_ENDINGS = frozenset(
    {".vasp", ".poscar", ".contcar", ".cif", ".json", ".xyz", ".extxyz", ".traj", ".db", ".xsf", ".axsf", ".crd", ".xv"}
)
#: VASP's names of structures, the likeliest result first.
_VASP_NAMES = ("CONTCAR", "POSCAR", "VASPRUN", "OUTCAR", "CHGCAR", "LOCPOT", "XDATCAR")
_VASP_FILES = frozenset((*_VASP_NAMES, "VASPRUN.XML"))
#: Of a run of neb.x, each of which has all images, the one with the cell first.
_NEB_X_ENDINGS = (".axsf", ".crd")
_NUMBERED = re.compile(r"(?:(?:image|img|neb)[_-]?)?(\d{1,4})", re.IGNORECASE)
#: CP2K writes a trajectory for each image: band-pos-Replica_nr_3-1.xyz.
_REPLICA = re.compile(r"replica_nr_(\d{1,4})", re.IGNORECASE)
_INITIAL = ("initial", "ini", "start", "is")
_FINAL = ("final", "fin", "end", "fs")
#: VASP numbers the folders of images with two digits, from 00 to N + 1 for IMAGES = N in the INCAR.
_VASP_NUMBER = re.compile(r"\d\d")
_IMAGES_TAG = re.compile(r"(?:^|;)[ \t]*+IMAGES[ \t]*+=[ \t]*+(\d{1,4})\b", re.MULTILINE | re.IGNORECASE)
_MOST_INCAR_BYTES = 1_000_000
#: Before and after every number.
_FIRST, _LAST = -1, 100_000
_MOST_SHOWN = 5
#: So many files of an archive without a structure are looked into, to say what they are.
_MOST_LOOKED_AT = 20
_NAMED_KINDS = frozenset({"format-not-read", "needs-other-file"})
_EXPECTED = (
    "folders 00, 01, .. NN (or image_0 .., or initial and final) with a POSCAR or CONTCAR each, or files numbered in "
    "order such as 00.vasp"
)


@dataclass(frozen=True, kw_only=True)
class Images:
    """What an archive has of a band.

    Attributes:
        files: of the images in order; or one file, of all images or of a crystal.
        energies_ev: of each image, from files beside them; empty where there are none.
        warnings: of what is missing.
    """

    files: tuple[File, ...]
    energies_ev: tuple[float | None, ...]
    warnings: tuple[str, ...]


def unpack_images(file: File, limits: Limits) -> Images:
    """The files of the images in order, CONTCAR preferred to POSCAR, and the energies beside them.

    An archive with one structure file gives that one. Energies are those of an OUTCAR in the folder of an image, or of
    the `.path` file of neb.x.

    Raises:
        FormatError: kinds "broken-zip", "no-images", "several-bands".
        UnsupportedError: kind "encrypted-zip".
        TooLargeError: files, images or unpacked bytes, counted while unpacking.
    """
    with open_archive(file, limits) as archive:
        candidates = [member for member in archive.members if _is_structure(member)]
        chosen, warnings = _choose(candidates, archive, limits)
        limits.check_images(len(chosen), file.name)
        files = archive.read(chosen)
        energies_ev, more = _energies_ev(chosen, archive)
        ends = _end_warnings(chosen, archive)
        return Images(files=files, energies_ev=energies_ev, warnings=(*warnings, *ends, *more))


def unpack_single(file: File, limits: Limits) -> File | None:
    """The crystal of an archive that has one alone, or the files of one run; None where it has several.

    Raises:
        FormatError: kind "broken-zip".
        UnsupportedError: kind "encrypted-zip".
        TooLargeError: files or unpacked bytes.
    """
    with open_archive(file, limits) as archive:
        candidates = [member for member in archive.members if _is_structure(member)]
        single = _single(candidates)
        return None if single is None else archive.read([single])[0]


def structure_names(file: File, limits: Limits) -> tuple[str, ...]:
    """The names of an archive's files of structures, sorted.

    Raises:
        FormatError: kind "broken-zip".
        UnsupportedError: kind "encrypted-zip".
        TooLargeError: files.
    """
    with open_archive(file, limits) as archive:
        return tuple(sorted(str(member.path) for member in archive.members if _is_structure(member)))


def listing(names: Sequence[str]) -> str:
    """The first few of an archive's names, for a message."""
    return ", ".join(name[-60:] for name in names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")


def _single(candidates: Sequence[Member]) -> Member | None:
    """The only structure; of one run of VASP, whose files lie in one folder, the file of its result."""
    if len(candidates) <= 1:
        return next(iter(candidates), None)
    in_one_folder = len({member.path.parent for member in candidates}) == 1
    is_run = in_one_folder and all(_plain_upper(member) in _VASP_FILES for member in candidates)
    return min(candidates, key=_preference) if is_run else None


def _choose(candidates: list[Member], archive: Archive, limits: Limits) -> tuple[list[Member], tuple[str, ...]]:
    name = archive.name
    folders = _by_folder(candidates)
    _refuse_several(candidates if folders else (), name)
    if not folders and (single := _single(candidates) or _of_neb_x(candidates)):
        return [single], ()  # one file may hold the whole band
    images = folders or _by_number(candidates)
    if not images:
        if not candidates:
            _refuse_unread(archive, limits)
        others = sorted(str(member.path) for member in candidates)
        beside = f", but {len(others)} structures: {listing(others)}" if others else ""
        raise FormatError(
            f"{name} contains no images of a band{beside}.",
            kind="no-images",
            where=name,
            expected=_EXPECTED + ("; of many crystals, one alone, or all with `ionpath screen`" if others else ""),
        )
    numbers = sorted(number for number in images if number not in (_FIRST, _LAST))
    spanned = bool(numbers) and numbers[-1] < len(archive.members) * 10
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers)) if spanned else []
    shown = ", ".join(f"{number:02d}" for number in missing[:10])
    warnings = (f"{name} has no image {shown}: the band continues straight over the gap.",) if missing else ()
    return [images[number] for number in sorted(images)], warnings


def _refuse_unread(archive: Archive, limits: Limits) -> None:
    """Name the first file of a known kind that is not read, in an archive without a structure that is."""
    visible = sorted((one for one in archive.members if not one.is_hidden), key=lambda member: str(member.path))
    for member in visible[:_MOST_LOOKED_AT]:
        if not archive.has_room_for([member]):
            continue
        (file,) = archive.read([member])
        try:
            format_of(file, limits)
        except InputError as error:
            if error.kind in _NAMED_KINDS:
                raise _no_readable(archive.name, error) from error


def _no_readable(name: str, error: InputError) -> FormatError:
    each = "; each image of a band, in files numbered in order such as 00.extxyz"
    return FormatError(
        f"{name} contains no structure that is read. {error.detail}",
        kind="no-images",
        where=error.where,
        expected=f"{error.expected}{each if error.kind == 'format-not-read' else ''}",
    )


def _of_neb_x(candidates: Sequence[Member]) -> Member | None:
    """The file of all images in the folder of one run of neb.x, beside which there are several others."""
    for ending in _NEB_X_ENDINGS:
        found = [member for member in candidates if plain_name(member.path.name).lower().endswith(ending)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _is_structure(member: Member) -> bool:
    name = _plain_upper(member)
    return not member.is_hidden and (
        name.startswith(("POSCAR", "CONTCAR", "XDATCAR", "VASPRUN"))
        or name in _VASP_FILES
        or PurePosixPath(name).suffix.lower() in _ENDINGS
    )


def _plain_upper(member: Member) -> str:
    return plain_name(member.path.name).upper()


def _image_number(name: str) -> int | None:
    """The number of an image by its folder's name: 03, image_3, or initial and final, the first and the last."""
    if match := _NUMBERED.fullmatch(name):
        return int(match[1])
    lowered = name.lower()
    return _FIRST if lowered in _INITIAL else _LAST if lowered in _FINAL else None


def _by_folder(candidates: Iterable[Member]) -> dict[int, Member]:
    """Image number to file, for files in folders that are named as images."""
    found: dict[int, Member] = {}
    for member in sorted(candidates, key=_preference):
        number = _image_number(member.folder)
        if number is not None:
            found.setdefault(number, member)
    return found


def _refuse_several(candidates: Iterable[Member], name: str) -> None:
    """Refuse an image number in more than one place, so that bands are neither dropped silently nor mixed."""
    places: dict[int, set[str]] = {}
    for member in candidates:
        number = _image_number(member.folder)
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


def _preference(member: Member) -> tuple[bool, float, str]:
    """Prefer VASP's own names, and files that are not empty: an interrupted run leaves an empty CONTCAR."""
    return member.size_bytes == 0, _vasp_rank(member), str(member.path)


def _vasp_rank(member: Member) -> float:
    """CONTCAR and POSCAR before other structures, and these before the output of a run."""
    name = member.path.name.upper()
    rank = next((k for k, known in enumerate(_VASP_NAMES) if name.startswith(known)), None)
    return 1.5 if rank is None else rank


def _by_number(candidates: Iterable[Member]) -> dict[int, Member]:
    """Image number to file, for files with a number of their own, such as 00.vasp, POSCAR_01 or initial.cif."""
    found: dict[int, Member] = {}
    for member in sorted(candidates, key=_preference):
        stem = re.sub(r"\.[A-Za-z]+\Z", "", plain_name(member.path.name))
        words = re.split(r"[^a-z]+", stem.lower())
        numbers = _REPLICA.findall(stem) or re.findall(r"\d+", stem)
        if any(word in words for word in _INITIAL):
            found.setdefault(_FIRST, member)
        elif any(word in words for word in _FINAL):
            found.setdefault(_LAST, member)
        elif numbers and len(numbers[-1]) <= 4:  # noqa: PLR2004 - a longer one is a date
            found.setdefault(int(numbers[-1]), member)
    return found


def _energies_ev(chosen: Sequence[Member], archive: Archive) -> tuple[tuple[float | None, ...], tuple[str, ...]]:
    """The energies of the images from files beside them, and a warning where those are too large to be read."""
    visible = [member for member in archive.members if not member.is_hidden]
    if len(chosen) == 1:
        paths = [member for member in visible if plain_name(member.path.name).lower().endswith(".path")]
        if len(paths) != 1 or not archive.has_room_for(paths):
            return (), ()
        text = text_of(archive.read(paths)[0])
        return (path_energies_ev(text) if is_path(text) else ()), ()
    outcars = {member.path.parent: member for member in visible if _plain_upper(member) == "OUTCAR"}
    beside = [outcars.get(member.path.parent) for member in chosen]
    found = [member for member in beside if member is not None and member.size_bytes]
    if not found or len({member.path.parent for member in chosen}) < len(chosen):
        return (), ()
    if not archive.has_room_for(found):
        warning = f"The OUTCARs in {archive.name} are too large to be read beside the images, so its energies are not."
        return (), (warning,)
    energies = iter([outcar_energy_ev(text_of(one)) for one in archive.read(found)])
    return tuple(next(energies) if member in found else None for member in beside), ()


def _end_warnings(chosen: Sequence[Member], archive: Archive) -> tuple[str, ...]:
    """Ask whether an end point of VASP's numbered folders is missing, by the INCAR beside them or else by 00."""
    if len(chosen) < 2 or not all(_VASP_NUMBER.fullmatch(member.folder) for member in chosen):  # noqa: PLR2004
        return ()
    numbers = sorted(int(member.folder) for member in chosen)
    intermediate = _intermediate_images(chosen, archive)
    if intermediate is None:
        if numbers[0] != 1:
            return ()
        asked = (
            f"{archive.name} has images {numbers[0]:02d} to {numbers[-1]:02d} and no 00: is the first end point "
            "missing? VASP's folders begin at 00. The first and the last folder are the ends of the hop here."
        )
        return (asked,)
    if len(numbers) == intermediate + 2:
        return ()
    last = f"{intermediate + 1:02d}"
    missing = ["00, the first end point,"] if 0 not in numbers else []
    missing += [f"{last}, the last end point,"] if intermediate + 1 not in numbers else []
    question = f"is {' and '.join(missing)} missing" if missing else "is each of them an image of this run"
    asked = (
        f"The INCAR of {archive.name} has IMAGES = {intermediate}, so the folders of the band are 00 to {last}, and "
        f"there are {len(numbers)}: {question}? The first and the last folder are the ends of the hop here."
    )
    return (asked,)


def _intermediate_images(chosen: Sequence[Member], archive: Archive) -> int | None:
    """The number of intermediate images by the tag IMAGES of the run's INCAR; None without that."""
    runs = {member.path.parents[1] for member in chosen}
    found = [
        member
        for member in archive.members
        if _plain_upper(member) == "INCAR" and {member.path.parent} == runs and member.size_bytes <= _MOST_INCAR_BYTES
    ]
    if len(found) != 1 or not archive.has_room_for(found):
        return None
    tag = _IMAGES_TAG.search(text_of(archive.read(found)[0]))
    return int(tag[1]) if tag else None
