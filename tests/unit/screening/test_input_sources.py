"""Crystals leave folders, archives and tables under unique paths, and nothing else does."""

import bz2
import gzip
import io
import itertools
import json
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from made_crystals import layered_oxide, rock_salt
from pyarrow import parquet

from app.screening.errors import ScreeningError
from app.screening.passed_by import in_words
from app.screening.rows import structure_json
from app.screening.sources.files import is_crystal
from app.screening.sources.items import Item, Selection, Source, SourceLimits, digest_of
from app.screening.sources.opening import open_sources, passed_by

LIMITS = SourceLimits()
FILES = {"Li/a.cif": b"data_a", "Li/b.vasp": b"b", "POSCAR_c": b"c", "d.cif.gz": gzip.compress(b"data_d")}
OTHERS = {"README.md": b"no crystal", ".hidden/x.cif": b"data_x", "__MACOSX/._a.cif": b"no"}


def items_of(source: Source, selection: Selection | None = None, first: int | None = None) -> list[Item]:
    parts = pickle.loads(pickle.dumps(source.parts(selection or Selection(), first)))  # they travel to other machines
    return list(itertools.chain.from_iterable(part.read() for part in parts))


def opened(path: Path | str, limits: SourceLimits = LIMITS) -> Source:
    (source,) = open_sources([str(path)], limits)
    return source


def folder_of(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def tar_of(files: Mapping[str, bytes], change: Callable[[tarfile.TarInfo], object] = lambda _: None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            change(member)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def zip_of(files: Mapping[str, bytes], mode: int = 0o100644) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return packed.getvalue()


PACKED: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "x.tar": tar_of,
    "x.tar.gz": lambda files: gzip.compress(tar_of(files)),
    "x.tar.bz2": lambda files: bz2.compress(tar_of(files)),
    "x.tar.xz": lambda files: lzma.compress(tar_of(files)),
    "x.zip": zip_of,
    "without-an-ending": lambda files: lzma.compress(tar_of(files)),
}


@pytest.mark.parametrize("name", [None, *PACKED])
def test_folders_and_archives_give_the_same_crystals(tmp_path: Path, name: str | None) -> None:
    every = {**FILES, **OTHERS}
    path = folder_of(tmp_path / "x", every) if name is None else tmp_path / name
    if name is not None:
        path.write_bytes(PACKED[name](every))
    source = opened(path)
    assert sorted(source.inputs()) == sorted(FILES)
    assert {item.input: item.content for item in items_of(source)} == FILES
    assert [item.name for item in items_of(source) if item.input == "Li/a.cif"] == ["a.cif"]


def test_a_folder_says_which_files_are_passed_by(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {**FILES, **OTHERS})
    assert passed_by(str(folder)) == sorted(OTHERS)
    assert passed_by(str(folder / "README.md")) == []


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("POSCAR_LFP", True),
        ("LFP_POSCAR", True),
        ("lfp-contcar.gz", True),
        ("LCO copy (1).cif.txt", True),
        ("POSCAR.txt", True),
        ("notes.txt", False),
        ("MYPOSCAR", False),
        ("LFP_POSCAR.png", False),
        (".LFP_POSCAR", False),
    ],
)
def test_crystals_are_recognised_by_their_names(name: str, taken: bool) -> None:
    assert is_crystal(f"folder/{name}") is taken


def test_files_that_are_passed_by_are_named_up_to_some() -> None:
    assert in_words(["a.md"]) == "1 file was passed by, as its name is not that of a crystal: a.md."
    assert in_words(["a.md", "b/c.txt"]).endswith("names are not those of crystals: a.md, b/c.txt.")
    many = [f"{number}.md" for number in range(20)]
    assert in_words(many).startswith("20 files were passed by")
    assert in_words(many).endswith(": 0.md, 1.md, 2.md, 3.md, 4.md, 5.md, 6.md, 7.md and 12 more.")


def test_what_is_done_is_not_read_again_and_a_limit_takes_the_first(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of({f"{k}.cif": b"data_" for k in range(6)}))
    for path in (tmp_path / "x.tar", folder_of(tmp_path / "x", {f"{k}.cif": b"data_" for k in range(6)})):
        selection = Selection(done=frozenset({digest_of("1.cif")}))
        assert [item.input for item in items_of(opened(path), selection, 3)] == ["0.cif", "2.cif"]


def test_a_folder_is_read_in_a_random_order_that_can_be_repeated(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {f"{k:02d}.cif": b"data_" for k in range(20)})
    orders = [[item.input for item in items_of(opened(folder), Selection(key=key))] for key in ("1", "1", "2")]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) != orders[0]


@pytest.mark.parametrize("name", ["../up.cif", "/root.cif", "a/../../up.cif", "C:/x.cif", "..\\up.cif"])
@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_paths_out_of_an_archive_are_refused(
    tmp_path: Path, name: str, pack: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    (tmp_path / "x").write_bytes(pack({"good.cif": b"data_", name: b"data_"}))
    with pytest.raises(ScreeningError, match=r"absolute path|path with \.\."):
        list(opened(tmp_path / "x").inputs())


def test_backslashes_in_a_zip_are_slashes(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of({"Li\\": b"", "Li\\POSCAR": b"title", "__MACOSX\\POSCAR": b"x"}))
    assert list(opened(tmp_path / "x.zip").inputs()) == ["Li/POSCAR"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    def link(member: tarfile.TarInfo) -> None:
        member.type, member.linkname, member.size = kind, "/etc/passwd", 0

    (tmp_path / "x.tar").write_bytes(tar_of({"a.cif": b""}, link))
    with pytest.raises(ScreeningError, match="link"):
        list(opened(tmp_path / "x.tar").inputs())


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of({"a.cif": b"/etc/passwd"}, mode=0o120777))
    with pytest.raises(ScreeningError, match="link"):
        list(opened(tmp_path / "x.zip").inputs())


@pytest.mark.parametrize("name", [name for name in PACKED if name != "x.tar"])
def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PACKED[name]({"a.cif": bytes(4_000_000)}))
    limits = SourceLimits(max_ratio=50, ratio_from_bytes=1_000_000)
    with pytest.raises(ScreeningError, match="50 times its size"):
        items_of(opened(tmp_path / name, limits))


@pytest.mark.parametrize("name", PACKED)
def test_limits_on_entries_and_bytes_name_their_option(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PACKED[name]({f"{k}.cif": b"data_" * 1000 for k in range(5)}))
    with pytest.raises(ScreeningError, match="--max-entries"):
        list(opened(tmp_path / name, SourceLimits(max_entries=3)).inputs())
    with pytest.raises(ScreeningError, match="--max-unpacked-gib"):
        list(opened(tmp_path / name, SourceLimits(max_unpacked_bytes=5_000)).inputs())


def test_an_entry_is_read_no_further_than_its_limit(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of({"a.cif": b"x" * 1_000}))
    (item,) = items_of(opened(tmp_path / "x.zip", SourceLimits(max_entry_bytes=100)))
    assert len(item.content) == 101  # enough to see that it is too large


@pytest.mark.parametrize("name", ["x.tar.xz", "x.tar.gz", "x.zip"])
def test_a_broken_archive_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PACKED[name]({f"{k}.cif": random_text(k) for k in range(50)})[:-600])
    with pytest.raises(ScreeningError, match=name.replace(".", r"\.")):
        items_of(opened(tmp_path / name))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_entry_of_a_zip_fails_alone(tmp_path: Path, method: int) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for number in range(3):
            archive.writestr(f"{number}.cif", random_text(number))
        start = archive.infolist()[1].header_offset + 30 + len("1.cif")
    content = bytearray(packed.getvalue())
    content[start : start + 40] = b"\xff" * 40
    (tmp_path / "x.zip").write_bytes(content)
    problems = {item.input: item.problem for item in items_of(opened(tmp_path / "x.zip"))}
    assert "1.cif cannot be unpacked" in (problems.pop("1.cif") or "")
    assert problems == {"0.cif": None, "2.cif": None}


PACKINGS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


@pytest.mark.parametrize("ending", PACKINGS)
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_packed_file_is_one_failure_and_a_damaged_table_is_named(
    tmp_path: Path, ending: str, damage: str
) -> None:
    def damaged(content: bytes) -> bytes:
        packed = PACKINGS[ending](content)
        return packed[:-20] if damage == "cut" else packed[:20] + b"\xff" * 30 + packed[50:]

    (tmp_path / f"x.cif{ending}").write_bytes(damaged(random_text(1)))
    (item,) = items_of(opened(tmp_path / f"x.cif{ending}"))  # the reader finds it damaged again
    assert item.input == f"x.cif{ending}"
    long = b"[" + b", ".join(b'"%d"' % number**5 for number in range(4000)) + b"]"
    (tmp_path / f"x.json{ending}").write_bytes(damaged(long))
    assert [item.input for item in items_of(opened(tmp_path / f"x.json{ending}"))] == [f"x.json{ending}"]
    (tmp_path / f"x.jsonl{ending}").write_bytes(damaged(structures()["mp-1"].encode()))
    with pytest.raises(ScreeningError, match=r"x\.jsonl.* cannot be read"):
        items_of(opened(tmp_path / f"x.jsonl{ending}"))


def random_text(seed: int) -> bytes:
    return b"data_" + bytes((seed * 7919 + k * k * 31) % 251 for k in range(400))


def structures() -> dict[str, str]:
    return {"mp-1": pymatgen_json("Li"), "mp-2": pymatgen_json("Na")}


def pymatgen_json(ion: str) -> str:
    crystal = rock_salt(ion=ion)
    sites = [
        {"species": [{"element": element, "occu": share} for element, share in site.species], "abc": site.frac_coords}
        for site in crystal.sites
    ]
    return json.dumps({"lattice": {"matrix": crystal.lattice_angstrom.tolist()}, "sites": sites})


@pytest.mark.parametrize("form", ["text", "columns", "nested"])
def test_parquet_files_of_structures(tmp_path: Path, form: str) -> None:
    rows = [{"material_id": name, "structure": text} for name, text in structures().items()]
    if form == "nested":
        rows = [{**row, "structure": json.loads(row["structure"])} for row in rows]
    if form == "columns":
        rows = [{"material_id": row["material_id"], **json.loads(row["structure"])} for row in rows]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    for path in (tmp_path / "x.parquet", tmp_path):  # a file, or a folder of nothing else
        source = opened(path)
        assert list(source.inputs()) == ["mp-1", "mp-2"]
        read = {item.input: orjson.loads(item.content) for item in items_of(source)}
        assert [site["species"][0]["element"] for site in read["mp-2"]["sites"]][:4] == ["Na"] * 4
        assert read["mp-1"]["lattice"]["matrix"][0][0] == pytest.approx(5.13)


@pytest.mark.parametrize("cell", [b"\x00", Decimal("1.5")])
def test_a_row_of_parquet_that_json_cannot_hold_fails_alone(tmp_path: Path, cell: object) -> None:
    column = [{"a": cell}, {"a": None}]
    parquet.write_table(pa.table({"id": ["", "good"], "structure": column}), tmp_path / "x.parquet")
    source = opened(tmp_path / "x.parquet")
    assert list(source.inputs()) == ["row-1", "good"]
    bad, good = items_of(source)
    assert (bad.input, good.input, good.problem) == ("row-1", "good", None)
    assert "row 1 holds something that JSON does not have" in (bad.problem or "")


def test_records_are_not_named_by_what_is_no_name(tmp_path: Path) -> None:
    records: list[dict[str, object]] = [{"id": True}, {"id": ""}, {"id": " ", "name": "n"}, {"id": 4}, {"id": None}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert list(opened(tmp_path / "x.jsonl").inputs()) == ["line-1", "line-2", "n", "4", "line-5"]


def test_a_parquet_file_without_structures_says_what_is_wanted(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ScreeningError, match="no column with structures"):
        list(opened(tmp_path / "x.parquet").inputs())


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
def test_json_lines(tmp_path: Path, ending: str) -> None:
    lines = [json.dumps({"id": name, "structure": json.loads(text)}) for name, text in structures().items()]
    content = "\n".join([*lines, "", "{no json", structures()["mp-1"]]).encode()
    packings: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
    (tmp_path / f"x.jsonl{ending}").write_bytes(packings[ending](content))
    source = opened(tmp_path / f"x.jsonl{ending}")
    assert list(source.inputs()) == ["mp-1", "mp-2", "line-4", "line-5"]
    problems = {item.input: item.problem for item in items_of(source)}
    assert "line 4 is not JSON" in (problems.pop("line-4") or "")
    assert set(problems.values()) == {None}


def test_an_optimade_page_and_a_list_of_structures(tmp_path: Path) -> None:
    page: dict[str, Any] = {
        "data": [{"id": name, "type": "structures", "attributes": {}} for name in ("a/1", "a/2")],
        "meta": {},
    }
    (tmp_path / "page.json").write_text(json.dumps(page))
    assert list(opened(tmp_path / "page.json").inputs()) == ["a/1", "a/2"]
    (tmp_path / "list.json").write_text(f"[{', '.join(structures().values())}]")
    assert list(opened(tmp_path / "list.json").inputs()) == ["entry-1", "entry-2"]
    (tmp_path / "one.json").write_text(structures()["mp-1"])
    assert list(opened(tmp_path / "one.json").inputs()) == ["one.json"]


def test_a_uri_of_a_filesystem_that_pyarrow_knows(tmp_path: Path) -> None:
    folder_of(tmp_path / "x", FILES)
    assert sorted(opened((tmp_path / "x").as_uri()).inputs()) == sorted(FILES)


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing", "does not exist"), ("empty", "holds no crystals"), ("nosuch://x/y", "no filesystem")],
)
def test_what_cannot_be_opened_is_named(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScreeningError, match=words):
        opened(name if "://" in name else tmp_path / name)


def test_a_structure_as_a_table_has_it_can_be_read_again() -> None:
    record = orjson.loads(structure_json(layered_oxide()))
    assert len(record["species"]) == len(record["frac_coords"]) == 12
    assert record["species"][1] == {"Li": 1.0}
