"""Input as an enemy sends it: named attacks, thousands of mutated files, and JSON that hypothesis thinks up."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import EXAMPLES, LIMIT_S, POSCAR, STRUCTURE, at_most, readers, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file, read_crystal, read_json_band
from app.errors import InputError, TooLargeError

#: How many mutated files, some fifty for each weight of a reader; `make fuzz` gives seven times as many.
INPUTS = 2_900
SEED = 6

CIF = """data_x
_cell_length_a 4.6
_cell_length_b 4.6
_cell_length_c 4.6
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_symmetry_equiv_pos_as_xyz
{operations}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{atoms}
"""
ATOMS = "O1 O 0 0 0 1\nLi1 Li 0.5 0.5 0.5 1"


def cif(*, operations: str = "'x, y, z'", atoms: str = ATOMS) -> bytes:
    return CIF.format(operations=operations, atoms=atoms).encode()


def refusal(content: bytes, name: str = "crystal", *, band: bool = False) -> InputError:
    read = read_band_file if band else read_crystal
    with at_most(LIMIT_S), pytest.raises(InputError) as refused:
        read(File(name=name, content=content), Limits())
    assert refused.value.detail
    return refused.value


def read_or_refused(read: Callable[..., object], *given_to: object) -> InputError | None:
    """The refusal, where it is one; whatever else is raised fails the test."""
    try:
        read(*given_to, Limits())
    except InputError as error:
        return error
    return None


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def zipped(members: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return written.getvalue()


def test_mutated_files_are_read_or_refused() -> None:
    results = run(INPUTS, SEED)
    assert set(results) == set(readers())
    assert [failure for result in results.values() for failure in result.failures] == []
    for name, result in results.items():  # else the mutations are too rough to reach what comes after parsing
        assert result.read >= 5, name
        assert len(result.kinds) >= 5, name


# Named attacks


def test_a_plain_cif_of_this_form_is_read() -> None:
    assert len(read_crystal(File(name="x", content=cif()), Limits()).sites) == 2


def test_names_in_a_zip_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    moved = POSCAR.replace(b".25 .25 .25", b".25 .25 .35")
    content = zipped({"/etc/00/POSCAR": POSCAR, "/tmp/01/POSCAR": moved})
    assert len(read_band_file(File(name="neb.zip", content=content), Limits()).band.image_frac_coords) == 2
    refusal(zipped({"../../00/POSCAR": POSCAR, "../../01/POSCAR": moved}), band=True)
    refusal(zipped({"..\\..\\00/POSCAR": POSCAR, "C:\\x/01/POSCAR": moved}), band=True)
    assert refusal(zipped({"/etc/passwd": b"root", "../../../etc/shadow": b"x"}), band=True).kind == "no-images"
    assert files(tmp_path) == []


def test_a_zip_that_unpacks_to_too_much_is_counted_out() -> None:
    bomb = zipped({f"{number:02d}/POSCAR": bytes(30_000_000) for number in range(5)})
    assert len(bomb) < 200_000
    error = refusal(bomb, band=True)
    assert isinstance(error, TooLargeError)
    assert "IONPATH_MAX_UNPACKED_BYTES" in error.detail + str(error.expected)


def test_a_zip_in_a_zip_is_not_unpacked() -> None:
    inner = zipped({f"{number:02d}/POSCAR": POSCAR for number in range(3)})
    assert refusal(zipped({"00/POSCAR": inner, "01/POSCAR": inner}), band=True).kind in {
        "band-not-crystal",
        "not-a-crystal",
    }


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"sites":', b'{"lattice_angstrom":['])
@pytest.mark.parametrize("deep", [1_000, 200_000])
@pytest.mark.parametrize("band", [True, False])
def test_deeply_nested_json_is_refused(opening: bytes, deep: int, band: bool) -> None:
    error = refusal(opening * deep, "deep.json", band=band)
    assert error.status in {400, 422}
    with at_most(LIMIT_S), pytest.raises(InputError):
        read_json_band(b'{"ion": ' + opening * deep, Limits())


@pytest.mark.parametrize("number", ["NaN", "nan", "inf", "-Infinity", "1e400", "1e308", "9" * 5_000, "0x1p3"])
def test_coordinates_that_are_no_finite_numbers_are_refused(number: str) -> None:
    refusal(cif(atoms=f"O1 O 0 0 0 1\nLi1 Li {number} 0.5 0.5 1"), "x.cif")
    refusal(POSCAR.replace(b".25 .25 .25", number.encode() + b" .25 .25"), "POSCAR")
    refusal(POSCAR.replace(b"4.62 0 0", number.encode() + b" 0 0"), "POSCAR")
    band = json.loads((EXAMPLES / "LiFePO4_band.json").read_bytes())
    text = json.dumps(band | {"image_frac_coords": [[0, 0, "@"], [0, 0, 0.5]]}).replace('"@"', number)
    with at_most(LIMIT_S), pytest.raises(InputError):
        read_json_band(text.encode(), Limits())
    structure = json.dumps(STRUCTURE).replace("0.25", number, 1)
    refusal(structure.encode(), "structure.json")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("POSCAR", POSCAR.replace(b"4 8\n", b"1000000 1000000\n")),
        ("POSCAR", POSCAR.replace(b"4 8\n", b"9" * 4_000 + b" 8\n")),
        ("x.cif", cif(atoms="\n".join(f"O{n} O {n / 2000:.4f} {n % 7 / 7:.4f} 0.1 1" for n in range(1_900)),
                      operations="\n".join(f"'x+{n}/192, y, z'" for n in range(192)))),
        ("x.cif", cif(operations="\n".join(f"'x+{n}/99999, y, z'" for n in range(50_000)))),
        ("x.xyz", b'1000000\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nLi 0 0 0\n'),
        ("x.xyz", b"9" * 4_000 + b'\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nLi 0 0 0\n'),
        ("x.json", json.dumps(STRUCTURE | {"sites": STRUCTURE["sites"] * 300_000}).encode()),
    ],
    ids=["POSCAR", "POSCAR-digits", "CIF-symmetry", "CIF-operations", "extxyz", "extxyz-digits", "JSON"],
)  # fmt: skip
def test_a_million_atoms_in_a_small_file_are_refused(name: str, content: bytes) -> None:
    refusal(content, name)


def test_a_cif_loop_that_never_ends_is_refused() -> None:
    whole = cif()
    for tail in (b"loop_\n" * 200_000, b"loop_\n_a\n" + b"1 " * 1_000_000, b"loop_\n_a\n_b\n" + b"'" * 500_000):
        with at_most(4 * LIMIT_S):  # an endless table of no atoms may be passed over as well
            read_or_refused(read_crystal, File(name="x.cif", content=whole + tail))
    refusal(whole[: whole.index(b"O1 O")] + b"O1 O 0 0 " * 200_001, "x.cif")


@pytest.mark.parametrize(
    "code",
    [
        "__import__('os').system('touch owned')",
        "x, y, [d for d in ().__class__.__mro__[1].__getattribute__(object, '__subclasses__')()]",
        "x, y, open('owned','w')",
        "x, y, z**9**9**9",
        "x, y, " + "9" * 50_000,
    ],
)
def test_code_in_a_symmetry_operation_is_refused_and_not_run(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quoted = '"' + code.replace('"', "'") + '"'
    # no symmetry operation, and so perhaps passed over
    magnetic = cif().replace(b"data_x\n", f"data_x\n_space_group_magn.transform_BNS_Pp_abc {quoted}\n".encode())
    read_or_refused(read_crystal, File(name="x.cif", content=magnetic))
    refusal(cif(operations=quoted), "x.cif")
    assert files(tmp_path) == []


@pytest.mark.parametrize("occupancy", ["1000000000", "1e300", "-1", "NaN", "inf", "1" * 4_000])
def test_an_occupancy_beyond_one_is_refused(occupancy: str) -> None:
    refusal(cif(atoms=f"O1 O 0 0 0 1\nLi1 Li 0.5 0.5 0.5 {occupancy}"), "x.cif")
    huge: dict[str, Any] = json.loads(json.dumps(STRUCTURE))
    huge["sites"][0]["species"][0]["occu"] = "@"
    refusal(json.dumps(huge).replace('"@"', occupancy).encode(), "x.json")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "cp500", "utf-7"])
def test_an_unusual_encoding_is_read_or_refused(encoding: str) -> None:
    for name, content in (("x.cif", cif()), ("POSCAR", POSCAR), ("x.json", json.dumps(STRUCTURE).encode())):
        recoded = content.decode().encode(encoding)
        if read_or_refused(read_crystal, File(name=name, content=recoded)) is None:
            crystals = [read_crystal(File(name=name, content=each), Limits()) for each in (recoded, content)]
            assert crystals[0].formula == crystals[1].formula


def test_what_is_quoted_from_a_file_cannot_steer_a_terminal() -> None:
    error = refusal(POSCAR.replace(b"O Li", b"O \x1b[2J\x1b]0;owned\x07"), "POSCAR\x1b[31m")
    for text in (error.detail, str(error), error.where or "", error.expected or ""):
        assert "\x1b" not in text
        assert "\x07" not in text


# What hypothesis thinks up

NUMBERS = st.one_of(st.floats(), st.integers(), st.floats(-2, 2), st.none(), st.booleans(), st.text(max_size=5))
VALUES = st.recursive(
    st.one_of(NUMBERS, st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
ROWS = st.lists(st.lists(st.one_of(st.floats(-2, 2), NUMBERS), min_size=2, max_size=4), max_size=4)
SYMBOLS = st.one_of(st.sampled_from(["Li", "O", "Na+", "Xx", "", "D", "li"]), VALUES)
BANDS = st.fixed_dictionaries(
    {},
    optional={
        "lattice_angstrom": st.one_of(st.just([[4, 0, 0], [0, 4, 0], [0, 0, 4]]), ROWS, VALUES),
        "host_species": st.one_of(st.lists(SYMBOLS, max_size=4), VALUES),
        "host_frac_coords": st.one_of(ROWS, VALUES),
        "ion": SYMBOLS,
        "image_frac_coords": st.one_of(st.just([[0, 0, 0], [0, 0, 0.5]]), ROWS, VALUES),
        "relaxed_host_frac_coords": st.one_of(st.lists(ROWS, max_size=3), VALUES),
    },
)
SITES = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {},
        optional={
            "species": st.one_of(
                VALUES,
                st.lists(st.fixed_dictionaries({}, optional={"element": SYMBOLS, "occu": NUMBERS}), max_size=2),
            ),
            "abc": st.one_of(st.lists(st.floats(-2, 2), min_size=3, max_size=3), VALUES),
            "xyz": VALUES,
            "label": SYMBOLS,
        },
    ),
)
STRUCTURES = st.fixed_dictionaries(
    {
        "lattice": st.one_of(st.just(STRUCTURE["lattice"]), VALUES),
        "sites": st.one_of(st.lists(SITES, max_size=4), VALUES),
    },
    optional={"@class": st.one_of(st.just("Structure"), VALUES), "@module": VALUES, "charge": NUMBERS},
)
FAST = settings(max_examples=250, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


@FAST
@given(BANDS)
def test_any_json_band_is_read_or_refused(document: dict[str, Any]) -> None:
    for given_as in (document, json.dumps(document).encode("utf-8", "surrogatepass")):
        error = read_or_refused(read_json_band, given_as)
        assert error is None or (error.kind and error.detail)


@FAST
@given(st.one_of(STRUCTURES, VALUES))
def test_any_json_structure_is_read_or_refused(document: Any) -> None:
    content = json.dumps(document).encode("utf-8", "surrogatepass")
    for read in (read_crystal, read_band_file):
        error = read_or_refused(read, File(name="x.json", content=content))
        assert error is None or (error.kind and error.detail)
