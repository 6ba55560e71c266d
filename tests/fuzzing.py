"""Mutated real files, given to every reader: each is read or refused with an InputError, and none takes long.

    python tests/fuzzing.py --inputs 20000 --seed 1

prints one line a reader and, of each failure, what brings the same input back. An input is a function of the seed
and its number alone. The time limit counts this process's own CPU seconds, so a busy machine fails nothing.
"""

import argparse
import bz2
import gzip
import io
import json
import lzma
import math
import random
import re
import resource
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.trajectory import TrajectoryWriter
from pymatgen.core import Lattice, Structure
from written_formats import ase_file, cell_of, crd, outcar, path, plain_xyz, poscar, siesta_xv, tarred, vasprun

from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file, read_crystal, read_end_points, read_json_band
from app.crystals.readers.given_cell import parse_cell
from app.crystals.sites.ion_sites import split
from app.errors import InputError
from app.models.features.conductor import conductor_descriptors

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "examples"
#: CPU seconds of one input: the slowest whole file takes a tenth of it.
LIMIT_S = 5.0
LIMITS = Limits(max_body_bytes=2_000_000, max_unpacked_bytes=4_000_000, max_atoms=500)
#: Longer inputs are cut, and a line is repeated at most so often that its copies are this long.
_LONGEST_BYTES = 4 * LIMITS.max_body_bytes

POSCAR = b"""Li2O
1.0
4.62 0 0
0 4.62 0
0 0 4.62
O Li
4 8
Selective dynamics
Direct
0 0 0 T T T
0 .5 .5 T T T
.5 0 .5 T T T
.5 .5 0 T T T
.25 .25 .25 F F F
.25 .25 .75 T T T
.25 .75 .25 T T T
.25 .75 .75 T T T
.75 .25 .25 T T T
.75 .25 .75 T T T
.75 .75 .25 T T T
.75 .75 .75 T T T
"""

STRUCTURE: dict[str, Any] = {
    "@module": "pymatgen.core.structure",
    "@class": "Structure",
    "lattice": {"matrix": [[4.62, 0.0, 0.0], [0.0, 4.62, 0.0], [0.0, 0.0, 4.62]], "a": 4.62, "pbc": [True, True, True]},
    "sites": [
        {"species": [{"element": "O", "occu": 1}], "abc": [0.0, 0.0, 0.0], "label": "O", "properties": {}},
        {"species": [{"element": "O", "occu": 0.5}, {"element": "S", "occu": 0.5}], "abc": [0.0, 0.5, 0.5]},
        {"species": [{"element": "Li", "oxidation_state": 1, "occu": 1}], "abc": [0.25, 0.25, 0.25], "label": "Li"},
    ],
}

_CORNERS = [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]
_CONFIGURATIONS = b"".join(
    b"Direct configuration=%6d\n 0 0 0\n 0 .5 .5\n .5 0 .5\n .25 .25 %s\n" % (k, z)
    for k, z in enumerate((b".25", b".375", b".5"), 1)
)
XDATCAR = b"LiO\n 1.0\n 4.62 0 0\n 0 4.62 0\n 0 0 4.62\n O Li\n 3 1\n" + _CONFIGURATIONS

AXSF = b" ANIMSTEPS 2\n CRYSTAL\n PRIMVEC\n 4.62 0 0\n 0 4.62 0\n 0 0 4.62\n" + b"".join(
    b" PRIMCOORD %d\n 3 1\nO 0 0 0 0 0 0\nO 0 2.31 2.31 0 0 0\nLi 1.2 1.2 %s 0 0 0\n" % (k, z)
    for k, z in ((1, b"1.2"), (2, b"3.4"))
)

_CELL = b"CELL_PARAMETERS angstrom\n4.62 0 0\n0 4.62 0\n0 0 4.62\n"

NUMBERS = (
    *("NaN", "nan", "inf", "-Infinity", "1e308", "-1e308", "1e-320", "1e999", "0", "-0", "-1", "1e9", "99999999999"),
    *("9" * 5000, "0x10", "1_0", "1.2.3", "1/0", "?", ".", "", "١٢", "1e", "--1", "1(5)", "1e3(9999999999)", "None"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\x00", "\ud800", "Li" * 5000),
    *([], {}, [[]], [[[]]], [None], [1, 2], {"a": 1}, [[1e300] * 3] * 3, [True, False, "1"], ["Li", 3, None]),
)
WORDS = (
    b"loop_",
    b"_atom_site_label",
    b"data_",
    b";",
    b"'",
    b'"',
    b"#",
    b"\x00",
    b"\xff\xfe",
    b"Lattice=",
    b"\r",
    b"{",
)
ENCODINGS = ("utf-16", "utf-16-be", "utf-32", "utf-7", "utf-8-sig", "cp500")


class TooSlowError(BaseException):
    """An input took longer than LIMIT_S; no library may catch it."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One way in.

    Attributes:
        read: what is given the mutated content and the name of the seed.
        seeds: real files, by name.
        weight: of the inputs, how many go here.
    """

    read: Callable[[bytes, str], object]
    seeds: Sequence[tuple[str, bytes]]
    weight: int


@dataclass(kw_only=True)
class Result:
    """What became of the inputs of one reader."""

    read: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    grown_mib: float = 0.0


def readers() -> dict[str, Reader]:
    """Every reader with what it is given."""

    def example(*names: str) -> list[tuple[str, bytes]]:
        return [(name, (EXAMPLES / name).read_bytes()) for name in names]

    def crystal(content: bytes, name: str) -> object:
        read = read_crystal(File(name=name, content=content), LIMITS)
        return conductor_descriptors(split(read, "Li"), None)

    def band(content: bytes, name: str) -> object:
        return read_band_file(File(name=name, content=content), LIMITS)

    def end_points(content: bytes, name: str) -> object:
        return read_end_points(
            File(name=name, content=content),
            File(name="POSCAR", content=POSCAR.replace(b".75 .75 .75", b"0.5 .5 .5")),
            LIMITS,
        )

    def beside_cell(content: bytes, name: str) -> object:
        return read_band_file(File(name=name, content=content, cell_angstrom=cell_of(_IMAGES[0])), LIMITS)

    def parsed(content: bytes, name: str) -> object:
        return parse_cell(content.decode("latin-1"), name)

    bands = json.loads((EXAMPLES / "LiFePO4_band.json").read_bytes())
    small = json.dumps(_smaller(bands)).encode()
    seed = example("LiFePO4_band.extxyz")[0][1]
    zipped = _unzipped((EXAMPLES / "LiFePO4_neb.zip").read_bytes())
    return {
        "CIF": Reader(read=crystal, seeds=example("LiCoO2.cif", "Na3PS4.cif", "MgMn2O4.cif"), weight=4),
        "POSCAR": Reader(read=crystal, seeds=[("POSCAR", POSCAR)], weight=4),
        "extxyz": Reader(read=band, seeds=example("LiFePO4_band.extxyz"), weight=3),
        "NEB zip": Reader(read=_through_zip(band, zipped), seeds=[("neb.zip", _joined(zipped))], weight=3),
        "JSON band": Reader(
            read=lambda content, _: read_json_band(content, LIMITS),
            seeds=[("band.json", small), *example("LiFePO4_band.json")],
            weight=4,
        ),
        "pymatgen JSON": Reader(read=crystal, seeds=[("structure.json", json.dumps(STRUCTURE).encode())], weight=4),
        "XDATCAR": Reader(read=band, seeds=[("XDATCAR", XDATCAR), ("POSCARS", POSCAR + POSCAR)], weight=3),
        "ASE trajectory": Reader(read=band, seeds=[("band.traj", _trajectory())], weight=3),
        "VASP's output": Reader(
            read=lambda content, name: (crystal if name == "crystal" else band)(content, name),
            seeds=[("vasprun.xml", vasprun(_IMAGES)), ("OUTCAR", outcar(_IMAGES)), ("crystal", vasprun(_IMAGES[:1]))],
            weight=4,
        ),
        "ASE database": Reader(
            read=lambda content, name: (_through_database(band) if name == "rows" else band)(content, name),
            seeds=[("band.db", _database()), ("rows", json.dumps(_rows()).encode())],
            weight=3,
        ),
        "without a cell": Reader(
            read=lambda content, name: (parsed if name == "cell" else beside_cell)(content, name),
            seeds=[
                *(("x.crd", crd(_IMAGES)), ("cp2k.xyz", plain_xyz(_IMAGES)), ("x.path", path(_IMAGES))),
                *(("cell", b"4.62,4.62,4.62,90,90,120"), ("cell", b"4.62 0 0 0 4.62 0 0 0 4.62")),
            ],
            weight=4,
        ),
        "run in a zip": Reader(read=_through_zip(band, _run()), seeds=[("run.zip", _joined(_run()))], weight=2),
        "XSF": Reader(read=band, seeds=[("neb.axsf", AXSF)], weight=2),
        "SIESTA, neb.in": Reader(
            read=lambda content, name: (crystal if name == "x.XV" else band)(content, name),
            seeds=[("x.XV", siesta_xv(_IMAGES[0])), ("neb.in", _CELL + crd(_IMAGES))],
            weight=2,
        ),
        "JSON structures": Reader(
            read=lambda content, name: (crystal if name == "entry.json" else band)(content, name),
            seeds=[(f"{name}.json", json.dumps(record).encode()) for name, record in _json_structures().items()],
            weight=4,
        ),
        "packed": Reader(
            read=band,
            seeds=[
                ("band.xyz.gz", gzip.compress(seed)),
                ("band.xyz.xz", lzma.compress(seed)),
                ("band.xyz.bz2", bz2.compress(seed)),
                ("neb.tar", tarred(zipped)),
                ("neb.tar.gz", gzip.compress(tarred(zipped))),
            ],
            weight=3,
        ),
        "end points": Reader(read=end_points, seeds=[("POSCAR", POSCAR)], weight=2),
    }


_IMAGES = tuple(
    Structure(Lattice.cubic(4.62), ["O", "O", "O", "Li"], [*_CORNERS, [0.25, 0.25, z]]) for z in (0.25, 0.4, 0.6)
)


def _database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return ase_file(_IMAGES, Path(folder), "db")


def _rows() -> list[dict[str, Any]]:
    """What the rows of a database hold, as JSON can be mutated."""
    return [
        {
            "numbers": list(image.atomic_numbers),
            "positions": image.cart_coords.tolist(),
            "cell": image.lattice.matrix.tolist(),
            "pbc": 7,
            "energy": 0.1 * number,
        }
        for number, image in enumerate(_IMAGES)
    ]


def _through_database(read: Callable[[bytes, str], object]) -> Callable[[bytes, str], object]:
    """Rows are mutated as JSON and stored in a database that is whole, as far as SQLite can hold them."""

    def stored(content: bytes, name: str) -> object:
        try:
            rows = json.loads(content)
        except (ValueError, RecursionError):
            return read(content, name)
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.deserialize(_database())
            for number, row in enumerate(rows if isinstance(rows, list) else [], 1):
                for column, value in row.items() if isinstance(row, dict) else ():
                    if column in _COLUMNS:
                        values = (_cell(column, value), number)
                        with suppress(sqlite3.Error, OverflowError, UnicodeError):  # more than a column can hold
                            connection.execute(f"UPDATE systems SET {column} = ? WHERE id = ?", values)
            kept = len(rows) if isinstance(rows, list) else 0
            connection.execute("DELETE FROM systems WHERE id > ?", (kept,))
            connection.commit()
            return read(connection.serialize(), "rows.db")

    return stored


_COLUMNS = {"numbers": np.int32, "positions": np.float64, "cell": np.float64, "pbc": None, "energy": None}


def _cell(column: str, value: Any) -> Any:
    """A value as ASE stores it in a column, where it is one of its kind; else as it is, or as text."""
    kind = _COLUMNS[column]
    try:
        if kind is not None:
            return np.array(value, dtype=kind).tobytes()
    except (ValueError, TypeError, OverflowError):
        pass
    return value if isinstance(value, int | float | str | None) else json.dumps(value)


def _run() -> dict[str, bytes]:
    """A folder of VTST's scripts."""
    files: dict[str, bytes] = {}
    for number, image in enumerate(_IMAGES):
        files |= {f"{number:02d}/POSCAR": poscar(image), f"{number:02d}/OUTCAR": outcar((image,))}
    return files


def _trajectory() -> bytes:
    written = io.BytesIO()
    with TrajectoryWriter(written, "w") as trajectory:
        for step in (0.0, 1.0, 2.0):
            positions = [[0, 0, 0], [0, 2.3, 2.3], [2.3, 0, 2.3], [1.2, 1.2, 1.2 + step]]
            trajectory.write(Atoms("O3Li", positions=positions, cell=[4.62, 4.62, 4.62], pbc=True))
        return written.getvalue()


def _json_structures() -> dict[str, Any]:
    cell = [[4.62, 0.0, 0.0], [0.0, 4.62, 0.0], [0.0, 0.0, 4.62]]
    sites = [[0.0, 0.0, 0.0], [0.0, 2.31, 2.31], [1.2, 1.2, 1.2]]
    later = [*sites[:2], [1.2, 1.2, 3.4]]
    optimade = [
        {
            "attributes": {
                "lattice_vectors": cell,
                "cartesian_site_positions": rows,
                "species_at_sites": ["O", "O", "Li"],
                "species": [
                    {"name": "O", "chemical_symbols": ["O"], "concentration": [1.0]},
                    {"name": "Li", "chemical_symbols": ["Li", "vacancy"], "concentration": [1.0, 0.0]},
                ],
            }
        }
        for rows in (sites, later)
    ]
    rows = {
        str(number): {"numbers": [8, 8, 3], "positions": positions, "cell": cell, "key_value_pairs": {"hop": 1}}
        for number, positions in enumerate((sites, later), 1)
    }
    return {
        "entry": {"@class": "ComputedStructureEntry", "energy": -1.0, "structure": STRUCTURE},
        "list": [_ordered(positions) for positions in (sites, later)],
        "optimade": {"data": optimade},
        "ase": {**rows, "ids": [1, 2], "nextid": 3},
    }


def _ordered(positions: list[list[float]]) -> dict[str, Any]:
    sites = [
        {"species": [{"element": element, "occu": 1}], "abc": [x / 4.62 for x in place]}
        for element, place in zip(("O", "O", "Li"), positions, strict=True)
    ]
    return {"lattice": STRUCTURE["lattice"], "sites": sites}


def run(inputs: int, seed: int, *, say: Callable[[str], object] = lambda _: None) -> dict[str, Result]:
    """Try so many inputs, shared among the readers by their weights."""
    results: dict[str, Result] = {}
    known = readers()
    total = sum(reader.weight for reader in known.values())
    for name, reader in known.items():
        result = results[name] = Result()
        for number in range(math.ceil(inputs * reader.weight / total)):
            _try(name, reader, seed, number, result)
        say(
            f"{name:14} tried {result.read + result.refused + len(result.failures):6}  read {result.read:6}  "
            f"refused {result.refused:6} in {len(result.kinds):3} kinds  slowest {result.slowest_s:.2f} s  "
            f"failures {len(result.failures)}"
        )
        for failure in result.failures:
            say(failure)
    return results


def make_input(name: str, reader: Reader, seed: int, number: int) -> tuple[str, bytes]:
    """The input of a number: which file it was and what became of it."""
    chance = random.Random(f"{seed}/{name}/{number}")
    file, content = chance.choice(reader.seeds)
    for _ in range(chance.choice((1, 1, 1, 1, 2, 4))):
        content = chance.choice(_MUTATIONS)(content, chance)
    return file, content[:_LONGEST_BYTES]


def _try(name: str, reader: Reader, seed: int, number: int, result: Result) -> None:
    file, content = make_input(name, reader, seed, number)
    started, before_mib = time.process_time(), _peak_mib()
    try:
        with at_most(LIMIT_S):
            reader.read(content, file)
    except InputError as error:
        result.refused += 1
        result.kinds[error.kind] += 1
        if not (
            error.kind and error.detail and error.detail.replace("\n", "").isprintable() and len(error.detail) < 2_000
        ):
            result.failures.append(
                f"  {name}, seed {seed}, input {number}: refused without words: {error.detail!r:.200}"
            )
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = traceback.extract_tb(error.__traceback__)
        ours = next((frame for frame in reversed(where) if "/app/" in frame.filename), where[-1])
        place = f"{Path(ours.filename).name}:{ours.lineno}"
        result.failures.append(
            f"  {name}, seed {seed}, input {number}: {type(error).__name__}: {error!s:.150} ({place})"
        )
    else:
        result.read += 1
    result.slowest_s = max(result.slowest_s, time.process_time() - started)
    result.grown_mib += _peak_mib() - before_mib


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def at_most(seconds: float) -> Generator[None]:
    def too_slow(_number: int, _frame: FrameType | None) -> None:
        raise TooSlowError(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)


# Mutations: each takes bytes and gives bytes.


def _flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 4, 40))):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _drop(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    return content[:start] + content[start + chance.randrange(1, 200) :]


def _lines(content: bytes, chance: random.Random) -> bytes:
    """Repeat, leave out, swap or empty some lines."""
    lines = content.splitlines(keepends=True) or [b""]
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    kind = chance.randrange(5)
    if kind == 0:
        lines[first:first] = lines[min(first, second) : max(first, second) + 1]
    elif kind == 1:
        room = max(1, _LONGEST_BYTES // max(1, len(lines[first])))  # a whole file may be one line
        lines[first:first] = [lines[first]] * min(chance.choice((1, 30, 2_000)), room)
    elif kind == 2:
        del lines[first]
    elif kind == 3:
        lines[first], lines[second] = lines[second], lines[first]
    else:
        lines[first] = b"\n" * chance.choice((1, 5_000))
    return b"".join(lines)


def _number(content: bytes, chance: random.Random) -> bytes:
    """Put another number where one stood."""
    found = list(re.finditer(rb"-?\d+\.?\d*(?:[eE][+-]?\d+)?", content))
    for match in sorted(chance.sample(found, min(len(found), chance.choice((1, 1, 5)))), key=lambda m: -m.start()):
        content = content[: match.start()] + chance.choice(NUMBERS).encode() + content[match.end() :]
    return content


def _tweak(content: bytes, chance: random.Random) -> bytes:
    """Change a number a little: what is read may still make sense."""
    found = list(re.finditer(rb"-?\d+\.?\d*", content))
    for match in sorted(chance.sample(found, min(len(found), chance.choice((1, 1, 9)))), key=lambda m: -m.start()):
        value = float(match[0][:300])
        new = chance.choice((-value, value + 0.01, value * 1.1, value + 1, value / 2, 0.0, 1.0))
        text = f"{new:.0f}" if b"." not in match[0] and abs(new) < 1e6 else f"{new:.6g}"
        content = content[: match.start()] + text.encode() + content[match.end() :]
    return content


def _case(content: bytes, chance: random.Random) -> bytes:
    """Change what a line ends with, or the case of everything."""
    changes = (
        lambda text: text.replace(b"\n", b"\r\n"),
        bytes.upper,
        bytes.lower,
        lambda text: text.replace(b" ", b"\t"),
    )
    return chance.choice(changes)(content)


def _word(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.choice(WORDS) * chance.choice((1, 1, 3, 1_000)) + content[place:]


def _encode(content: bytes, chance: random.Random) -> bytes:
    return content.decode("latin-1").encode(chance.choice(ENCODINGS), "replace")


def _nest(content: bytes, chance: random.Random) -> bytes:
    place, deep = chance.randrange(len(content) + 1), chance.choice((10, 1_000, 100_000))
    opening, closing = chance.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"(", b")")))
    return content[:place] + opening * deep + b"1" + closing * chance.choice((deep, 0)) + content[place:]


def _json_value(content: bytes, chance: random.Random) -> bytes:
    """Put another value at some place of a JSON document."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return _flip(content, chance)
    places = list(_places(document))
    if not places:
        return content
    parent, key = chance.choice(places)
    change = chance.randrange(4)
    if change == 0 and isinstance(parent, dict):
        del parent[key]
    elif change == 1 and isinstance(parent, list):
        parent.extend(parent[:] * min(chance.choice((1, 20)), max(1, 5_000 // max(1, len(parent)))))
    else:
        parent[key] = chance.choice(VALUES)
    return json.dumps(document).encode("utf-8", "surrogatepass")[: 4 * LIMITS.max_body_bytes]


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(document, dict | list):
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            yield document, key
            yield from _places(value)


_MUTATIONS = (
    _flip,
    _flip,
    _cut,
    _drop,
    _lines,
    _lines,
    _number,
    _number,
    _tweak,
    _tweak,
    _word,
    _encode,
    _nest,
    _json_value,
    _json_value,
)


# A zip is mutated as one text of all its files and zipped again, or as the bytes of the zip.

_BETWEEN = b"\n=====\n"
_NAMES = (
    "../../../etc/passwd",
    "/POSCAR",
    "01/../../POSCAR",
    "C:\\01\\POSCAR",
    "01\x00/POSCAR",
    "9999/POSCAR",
    "é/POSCAR",
)


def _unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {member.filename: archive.read(member) for member in archive.infolist() if not member.is_dir()}


def _joined(files: dict[str, bytes]) -> bytes:
    return _BETWEEN.join(files.values())


def _through_zip(read: Callable[[bytes, str], object], files: dict[str, bytes]) -> Callable[[bytes, str], object]:
    def zipped(content: bytes, name: str) -> object:
        chance = random.Random(content)
        names = [chance.choice(_NAMES) if chance.random() < 0.05 else name for name in files]
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for member, part in dict(zip(names, content.split(_BETWEEN), strict=False)).items():
                archive.writestr(member, part)
        packed = written.getvalue()
        if chance.random() < 0.5:
            packed = chance.choice((_flip, _cut, _drop))(packed, chance)
        return read(packed, name)

    return zipped


def _smaller(band: dict[str, Any]) -> dict[str, Any]:
    """A band of a tenth of its host: more inputs a second."""
    keep = slice(None, None, 6)
    return band | {"host_species": band["host_species"][keep], "host_frac_coords": band["host_frac_coords"][keep]}


def main() -> int:
    """Run from the command line; the exit status is 1 where an input failed."""
    parser = argparse.ArgumentParser(description="Give mutated real files to every reader.")
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the time where left out")
    asked = parser.parse_args()
    write = sys.stdout.write
    write(f"seed {asked.seed}\n")
    results = run(asked.inputs, asked.seed, say=lambda line: (write(line + "\n"), sys.stdout.flush()))
    tried = sum(each.read + each.refused + len(each.failures) for each in results.values())
    failures = sum(len(each.failures) for each in results.values())
    grown_mib = sum(each.grown_mib for each in results.values())
    write(f"{tried} inputs, {failures} failures; reading them raised the peak of memory by {grown_mib:.0f} MiB\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
