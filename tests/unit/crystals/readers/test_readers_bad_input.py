"""Each kind of bad input gets its own 4xx problem in a chemist's words; nothing else ever comes out of a reader."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from band_files import band_to_poscar_zip

from app.crystals.hops.search import find_hops
from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file, read_crystal, read_end_points, read_json_band
from app.crystals.writers import band_to_extxyz
from app.errors import FormatError, InputError, TooLargeError, UnsupportedError

LIMITS = Limits()
BAND: dict[str, Any] = {
    "lattice_angstrom": [[8, 0, 0], [0, 8, 0], [0, 0, 8]],
    "host_species": ["O", "Fe"],
    "host_frac_coords": [[0.5, 0.5, 0.5], [0.5, 0.5, 0.25]],
    "ion": "Li",
    "image_frac_coords": [[0, 0, 0], [0.15, 0, 0], [0.3, 0, 0]],
}
POSCAR = "title\n1\n8 0 0\n0 8 0\n0 0 8\nLi O\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
FRAME = '2\nLattice="8 0 0 0 8 0 0 0 8" Properties=species:S:1:pos:R:3\nLi {x} 0 0\nO 4 4 4\n'
CIF = """data_test
_symmetry_space_group_name_H-M 'P 1'
_cell_length_a 8
_cell_length_b 8
_cell_length_c 8
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_chemical_formula_sum 'Li1 O1'
loop_
 _atom_site_type_symbol
 _atom_site_label
 _atom_site_fract_x
 _atom_site_fract_y
 _atom_site_fract_z
 _atom_site_occupancy
 Li Li1 0 0 0 1
 O O1 0.5 0.5 0.5 1
"""


def file(content: str | bytes, name: str = "upload") -> File:
    return File(name=name, content=content.encode() if isinstance(content, str) else content)


def band(**changes: object) -> bytes:
    return json.dumps({**BAND, **changes}).encode()


def crystal(text: str | bytes) -> object:
    return read_crystal(file(text), LIMITS)


def json_band(**changes: object) -> object:
    return read_json_band(band(**changes), LIMITS)


def xyz(*frames: str) -> object:
    return read_band_file(file("".join(frames), "band.xyz"), LIMITS)


def zipped(members: dict[str, str]) -> File:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return file(packed.getvalue(), "neb.zip")


def grid(count: int, step: float | None = None, head: str = "") -> str:
    """Lines of a cubic grid's coordinates, fractional where no step is given."""
    spacing = step or 1 / count
    numbers = range(count)
    return "".join(
        f"{head}{x * spacing} {y * spacing} {z * spacing}\n" for x in numbers for y in numbers for z in numbers
    )


def many_atoms(count: int) -> str:
    positions = "".join(f"{k / count} 0 0\n" for k in range(count))
    return f"title\n1\n8 0 0\n0 8 0\n0 0 8\nLi\n{count}\nDirect\n{positions}"


Case = tuple[Callable[[], object], type[InputError], str, str]

#: The ten of the specification.
TEN: dict[str, Case] = {
    "not a crystal": (lambda: crystal("Dear editor, please find"), FormatError, "not-a-crystal", "not a crystal"),
    "truncated CIF": (lambda: crystal(CIF[: CIF.index(" O O1")]), FormatError, "truncated-cif", "fewer O atoms"),
    "no ion": (lambda: json_band(ion=None), InputError, "no-ion", "which ion hops"),
    "an element that does not exist": (lambda: json_band(ion="Xz"), InputError, "unknown-element", '"Xz"'),
    "two frames with different atoms": (
        lambda: xyz(FRAME.format(x=0), FRAME.format(x=3).replace("O 4", "S 4")),
        InputError,
        "different-atoms",
        "has 1 S more, 1 O fewer than",
    ),
    "a band with one image": (lambda: json_band(image_frac_coords=[[0, 0, 0]]), InputError, "one-image", "has 1"),
    "host atoms on top of each other": (
        lambda: json_band(host_frac_coords=[[0.5, 0.5, 0.999], [0.5, 0.5, 0.001]]),
        InputError,
        "atoms-overlap",
        r"O \(host atom 0\) and Fe \(host atom 1\) are on top of each other, 0.02 angstrom",
    ),
    "10,000 atoms": (lambda: crystal(many_atoms(10_000)), TooLargeError, "too-many-atoms", "IONPATH_MAX_ATOMS"),
    "50 MB": (lambda: crystal(b" " * 50_000_000), TooLargeError, "too-many-bytes", "IONPATH_MAX_BODY_BYTES"),
    "mixed sites": (
        lambda: read_end_points(file(CIF.replace("O1 0.5 0.5 0.5 1", "O1 0.5 0.5 0.5 0.5")), file(CIF), LIMITS),
        InputError,
        "mixed-sites",
        "O 0.5 at 0.5000, 0.5000, 0.5000",
    ),
}

MORE: dict[str, Case] = {
    "empty": (lambda: crystal(" \n"), FormatError, "empty-file", "empty"),
    "binary": (lambda: crystal(bytes(range(256))), FormatError, "not-a-crystal", "not a crystal"),
    "gzip cut off": (lambda: crystal(b"\x1f\x8b\x08rest"), FormatError, "broken-packing", "gzip"),
    "7z": (lambda: crystal(b"7z\xbc\xaf rest"), UnsupportedError, "packed-file", "7z"),
    "cell only": (lambda: crystal(CIF[: CIF.index("loop_")]), FormatError, "truncated-cif", "before its atoms"),
    "half a row": (lambda: crystal(CIF.rstrip()[:-8]), FormatError, "truncated-cif", "row"),
    "open text": (lambda: crystal(CIF + "_publ\n;\nabout"), FormatError, "truncated-cif", "not closed"),
    "no number": (lambda: crystal(CIF.replace("0.5 0.5 0.5", "0.5 ? 0.5")), FormatError, "unreadable-cif", "Atom 2"),
    "comma in a position": (
        lambda: crystal(CIF.replace("0.5 0.5 0.5", "0,50000000 0,5 0,5(2)")),
        FormatError,
        "unreadable-cif",
        r"_atom_site_fract_x of upload, row 2 is '0,50000000', with a decimal comma: a CIF has decimal points",
    ),
    "comma in an occupancy": (
        lambda: crystal(CIF.replace("0.5 1\n", "0.5 1,0\n")),
        FormatError,
        "unreadable-cif",
        "_atom_site_occupancy of upload, row 2 is '1,0', with a decimal comma",
    ),
    "comma in a length": (
        lambda: crystal(CIF.replace("_b 8", "_b 8,000(1)")),
        FormatError,
        "unreadable-cif",
        r"_cell_length_b of upload is '8,000\(1\)', with a decimal comma",
    ),
    "element in CIF": (lambda: crystal(CIF.replace(" O O1", " Qq Qq1")), InputError, "unknown-element", '"Qq"'),
    "one place twice": (
        lambda: crystal(CIF.replace("'Li1 O1'", "'Li2 O1'") + " Li Li2 0 0 0 1\n"),
        InputError,
        "atoms-overlap",
        "in one place",
    ),
    "atoms overlap in a crystal": (
        lambda: crystal(POSCAR.replace("0.5 0.5 0.5", "0 0 0.99")),
        InputError,
        "atoms-overlap",
        "0.08 angstrom",
    ),
    "VASP 4": (lambda: crystal(POSCAR.replace("Li O\n", "")), FormatError, "no-element-names", "VASP 4"),
    "POSCAR cut": (lambda: crystal(POSCAR[:-12]), FormatError, "unreadable-poscar", "ends early"),
    "flat cell": (lambda: crystal(POSCAR.replace("0 0 8", "0 8 0")), InputError, "not-a-cell", "flat"),
    "flat cell, nearly": (lambda: crystal(POSCAR.replace("0 0 8\n", "0 0 0.5\n")), InputError, "not-a-cell", "flat"),
    "flat cell, small": (
        lambda: crystal(POSCAR.replace("\n1\n", "\n0.05\n").replace("0 0 8\n", "0 8 1e-9\n")),
        InputError,
        "not-a-cell",
        "flat",
    ),
    "a point for a cell": (
        lambda: crystal(POSCAR.replace("\n1\n", "\n1e-9\n")),
        InputError,
        "not-a-cell",
        r"too small.*faces\.$",
    ),
    "nanometres": (
        lambda: crystal(CIF.replace("_a 8", "_a 0.3").replace("_b 8", "_b 0.3").replace("_c 8", "_c 1.4")),
        InputError,
        "not-a-cell",
        r"too small: its vectors of 0.3, 0.3, 1.4 angstrom span 0.126 .* nanometres",
    ),
    "nanometres in JSON": (
        lambda: json_band(lattice_angstrom=[[0.8, 0, 0], [0.4, 0.7, 0], [0, 0, 2.4]]),
        InputError,
        "not-a-cell",
        "nanometres",
    ),
    "picometres": (
        lambda: crystal(CIF.replace("_a 8", "_a 1033.2").replace("_b 8", "_b 601").replace("_c 8", "_c 469.2")),
        InputError,
        "not-a-cell",
        r"below 1000 angstrom\. These look like picometres\.",
    ),
    "picometres below the limit": (
        lambda: crystal(POSCAR.replace("\n1\n", "\n50\n")),
        InputError,
        "impossible-density",
        r"far too large for 2 atoms.* These look like picometres\.",
    ),
    "a cell too large in any unit": (
        lambda: crystal(POSCAR.replace("\n1\n", "\n1e6\n")),
        InputError,
        "not-a-cell",
        r"below 1000 angstrom\.$",
    ),
    "a cell too large to be squared": (
        lambda: json_band(lattice_angstrom=[[1e200, 0, 0], [0, 1e200, 0], [0, 0, 1e200]]),
        InputError,
        "not-a-cell",
        r"below 1000 angstrom\.$",
    ),
    "one atom in a large box": (
        lambda: crystal(POSCAR.replace("\n1\n", "\n100\n")),
        InputError,
        "impossible-density",
        r"such a density\.$",
    ),
    "NaN": (lambda: crystal(POSCAR.replace("0.5 0.5 0.5", "0.5 nan 0.5")), InputError, "not-coordinates", "nan"),
    "charged nonsense": (lambda: crystal(POSCAR.replace("Li O", "Li Lit")), InputError, "unknown-element", "Was Li"),
    "plain xyz": (lambda: xyz("1\ncomment\nLi 0 0 0\n"), FormatError, "no-lattice", "no Lattice"),
    "xyz cut": (lambda: xyz(FRAME.format(x=0), FRAME.format(x=3)[:-9]), FormatError, "unreadable-xyz", "ends within"),
    "one frame": (lambda: xyz(FRAME.format(x=0)), FormatError, "single-crystal", "two images or more"),
    "other cells": (
        lambda: xyz(FRAME.format(x=0), FRAME.format(x=3).replace('0 0 8"', '0 0 8.2"')),
        InputError,
        "different-cells",
        "0.200 angstrom",
    ),
    "nothing moves at all": (
        lambda: xyz(*[FRAME.format(x=0)] * 3),
        InputError,
        "nothing-moves",
        r"^Nothing hops: all images are the same\.$",
    ),
    "there and back": (
        lambda: xyz(FRAME.format(x=0), FRAME.format(x=2), FRAME.format(x=0)),
        InputError,
        "nothing-moves",
        "no atom moves by more than 0.00 angstrom between first and last image",
    ),
    "nothing moves": (lambda: xyz(FRAME.format(x=0), FRAME.format(x=0.1)), InputError, "nothing-moves", "no atom"),
    "ends on an atom": (
        lambda: json_band(image_frac_coords=[[0, 0, 0], [0.25, 0.25, 0.25], [0.5, 0.5, 0.49]]),
        InputError,
        "atoms-overlap",
        r"Li ends on top of O \(host atom 0\)",
    ),
    "single crystal": (
        lambda: read_band_file(file(POSCAR), LIMITS),
        FormatError,
        "single-crystal",
        "is a single crystal",
    ),
    "band as crystal": (
        lambda: crystal(FRAME.format(x=0) + FRAME.format(x=3)),
        FormatError,
        "band-not-crystal",
        "2 frames",
    ),
    "other ion": (
        lambda: read_end_points(file(POSCAR), file(POSCAR), LIMITS, ion="Na"),
        InputError,
        "ion-not-in-crystal",
        "no Na",
    ),
    "broken zip": (lambda: read_band_file(file(b"PK\x03\x04rest"), LIMITS), FormatError, "broken-zip", "broken zip"),
    "zip of letters": (
        lambda: read_band_file(zipped({"a/b.txt": "hello"}), LIMITS),
        FormatError,
        "no-images",
        "no images",
    ),
    "zip of several crystals": (
        lambda: read_crystal(zipped({f"found/{name}.cif": CIF for name in ("b", "a", "c")}), LIMITS),
        FormatError,
        "band-not-crystal",
        "neb.zip is a zip of 3 structures, found/a.cif, found/b.cif, found/c.cif, and one crystal belongs here",
    ),
    "zip of many crystals": (
        lambda: read_crystal(zipped({f"{k}.cif": CIF for k in range(10, 19)}), LIMITS),
        FormatError,
        "band-not-crystal",
        r"a zip of 9 structures, 10.cif, 11.cif, 12.cif, 13.cif, 14.cif, \.\.\., and one",
    ),
    "zip of several crystals as a band": (
        lambda: read_band_file(zipped({f"{name}.cif": CIF for name in ("b", "a", "c")}), LIMITS),
        FormatError,
        "no-images",
        "no images of a band, but 3 structures: a.cif, b.cif, c.cif",
    ),
    "zip without a crystal": (
        lambda: read_crystal(zipped({"a/b.txt": "hello"}), LIMITS),
        FormatError,
        "band-not-crystal",
        "is a zip, and one crystal belongs here",
    ),
    "several bands in a zip": (
        lambda: read_band_file(
            zipped({f"out/hop-{hop}/0{image}/POSCAR": POSCAR for hop in (1, 2) for image in (0, 1)}), LIMITS
        ),
        FormatError,
        "several-bands",
        "2 bands: out/hop-1, out/hop-2",
    ),
    "zip bomb": (
        lambda: read_band_file(zipped({f"{k}/POSCAR": " " * 30_000_000 for k in range(4)}), LIMITS),
        TooLargeError,
        "too-many-unpacked-bytes",
        "IONPATH_MAX_UNPACKED_BYTES",
    ),
    "many files": (
        lambda: read_band_file(zipped({f"{k}/POSCAR": "" for k in range(401)}), LIMITS),
        TooLargeError,
        "too-many-files",
        "IONPATH_MAX_FILES",
    ),
    "many images": (
        lambda: json_band(image_frac_coords=[[0, 0, k / 500] for k in range(100)]),
        TooLargeError,
        "too-many-images",
        "IONPATH_MAX_IMAGES",
    ),
    "no JSON": (lambda: read_json_band(b'{"ion": NaN}', LIMITS), FormatError, "not-json", "no JSON"),
    "deep JSON": (lambda: read_json_band(b"[" * 100_000, LIMITS), FormatError, "not-json", "no JSON"),
    "a list": (lambda: read_json_band(b"[]", LIMITS), FormatError, "not-a-band", "not an object"),
    "text numbers": (lambda: json_band(host_frac_coords=[["0", 0, 0], [1, 1, 1]]), InputError, "wrong-shape", "'0'"),
    "truth numbers": (lambda: json_band(image_frac_coords=[[True, 0, 0]] * 2), InputError, "wrong-shape", "'True'"),
    "angstrom": (lambda: json_band(image_frac_coords=[[0, 0, 0], [400, 0, 0]]), InputError, "not-coordinates", "400"),
    "no lattice field": (lambda: json_band(lattice_angstrom=None), InputError, "missing-field", "lattice_angstrom"),
    "rows missing": (lambda: json_band(host_frac_coords=[[0, 0, 0.5]]), InputError, "wrong-shape", "1 rows, not 2"),
    "no host": (lambda: json_band(host_species=[], host_frac_coords=[]), InputError, "no-host", "no host"),
    "no host in frames": (
        lambda: xyz(*(FRAME.format(x=x).replace("2\n", "1\n", 1).replace("O 4 4 4\n", "") for x in (0, 3))),
        InputError,
        "no-host",
        "no host",
    ),
    "heavy in JSON": (
        lambda: json_band(host_species=["O", "Md"]),
        InputError,
        "element-not-covered",
        r"Md \(Z = 101\) is heavier",
    ),
    "an element that no potential knows": (lambda: json_band(ion="Am"), InputError, "element-not-covered", "Z = 95"),
    "no single hop": (
        lambda: json_band(image_frac_coords=[[0.5, 0.5, 0.1 + 1.5 * step] for step in range(40)]),
        InputError,
        "hop-too-long",
        "no single hop",
    ),
    "heavy ion": (lambda: json_band(ion="Og"), InputError, "element-not-covered", "Z = 118"),
    "heavy in POSCAR": (lambda: crystal(POSCAR.replace("Li O", "Li No")), InputError, "element-not-covered", "No"),
    "heavy in CIF": (
        lambda: crystal(CIF.replace(" O O1", " Md Md1").replace("O1'", "Md1'")),
        InputError,
        "element-not-covered",
        "Md",
    ),
    "heavy in xyz": (
        lambda: xyz(*(FRAME.format(x=x).replace("O 4", "Lr 4") for x in (0, 3))),
        InputError,
        "element-not-covered",
        "Lr",
    ),
    "heavy in pymatgen JSON": (
        lambda: crystal(
            json.dumps(
                {
                    "lattice": {"matrix": BAND["lattice_angstrom"]},
                    "sites": [{"species": [{"element": "Rf", "occu": 1}], "abc": [0, 0, 0]}],
                }
            )
        ),
        InputError,
        "element-not-covered",
        "Rf",
    ),
    "heavy ion of a crystal": (
        lambda: find_hops(read_crystal(file(POSCAR), LIMITS), "Lr", max_atoms=2000),
        InputError,
        "element-not-covered",
        "Lr",
    ),
    "crowded band": (
        lambda: json_band(
            lattice_angstrom=(np.eye(3) * 2.4).tolist(),
            host_species=["O"] * 63,
            host_frac_coords=[[x / 4, y / 4, z / 4] for x in range(4) for y in range(4) for z in range(4)][1:],
        ),
        InputError,
        "impossible-density",
        "13.82 cubic angstrom is far too small for 64 atoms",
    ),
    "crowded crystal": (
        lambda: crystal("title\n0.3\n8 0 0\n0 8 0\n0 0 8\nLi\n64\nDirect\n" + grid(4)),
        InputError,
        "impossible-density",
        "too small for 64 atoms",
    ),
    "crowded frames": (
        lambda: xyz(*(f'64\nLattice="2.4 0 0 0 2.4 0 0 0 2.4"\n{grid(4, 0.6, "O ")}' for _ in range(2))),
        InputError,
        "impossible-density",
        "too small for 64 atoms",
    ),
    "crowded split sites": (
        lambda: crystal(
            json.dumps(
                {
                    "lattice": {"matrix": (np.eye(3) * 2.4).tolist()},
                    "sites": [{"species": [{"element": "Li", "occu": 0.01}], "abc": [k / 50, 0, 0]} for k in range(50)],
                }
            )
        ),
        InputError,
        "impossible-density",
        "0.5 atoms on 50 sites",
    ),
    "one atom in nothing": (
        lambda: crystal(
            POSCAR.replace("\n1\n", "\n0.1625\n").replace("Li O\n1 1", "Li\n1").replace("0.5 0.5 0.5\n", "")
        ),
        InputError,
        "impossible-density",
        "2.197 cubic angstrom is far too small for 1 atom",
    ),
    "nanometres taken for a cell": (
        lambda: crystal(POSCAR.replace("\n1\n", "\n10\n")),
        InputError,
        "impossible-density",
        "far too large for 2 atoms",
    ),
}


@pytest.mark.parametrize("case", [*TEN, *MORE])
def test_bad_input_gets_its_own_problem(case: str) -> None:
    call, error, kind, words = {**TEN, **MORE}[case]
    with pytest.raises(error, match=words) as caught:
        call()
    assert caught.value.kind == kind
    assert 400 <= caught.value.status < 500
    assert caught.value.where
    assert caught.value.expected


def test_the_ten_kinds_are_ten() -> None:
    assert len({kind for _, _, kind, _ in TEN.values()}) == 10


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"host_species": ["O", "Qq"]}, "host_species[1]"),
        ({"host_species": ["O", 8]}, "host_species[1]"),
        ({"host_frac_coords": [[0, 0, 0.5], [0, None, 0]]}, "host_frac_coords[1][1]"),
        ({"host_frac_coords": [[0, 0, 0.5], [0, 0]]}, "host_frac_coords[1]"),
        ({"image_frac_coords": [[0, 0, 0], [0, 0, "x"]]}, "image_frac_coords[1][2]"),
        ({"image_frac_coords": "here"}, "image_frac_coords"),
        ({"lattice_angstrom": [[1, 0, 0], [0, 1, 0]]}, "lattice_angstrom"),
        ({"ion": 3}, "ion"),
        ({"relaxed_host_frac_coords": [[[0, 0, 0]]]}, "relaxed_host_frac_coords"),
    ],
)
def test_a_json_error_names_the_field(changes: dict[str, object], where: str) -> None:
    with pytest.raises(InputError) as caught:
        json_band(**changes)
    assert caught.value.where == where


def test_what_a_mapping_may_hold_and_json_may_not_is_refused() -> None:
    for number in (float("nan"), float("inf"), 10**400):
        with pytest.raises(InputError) as caught:
            read_json_band({**BAND, "image_frac_coords": [[0, 0, 0], [number, 0, 0]]}, LIMITS)
        assert str(caught.value.where).startswith("image_frac_coords")


def test_an_encrypted_zip_is_refused_and_a_lying_header_is_counted_out() -> None:
    content = bytearray(zipped({"00/POSCAR": POSCAR, "01/POSCAR": POSCAR}).content)
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    with pytest.raises(UnsupportedError, match="encrypted"):
        read_band_file(file(bytes(content)), LIMITS)
    with pytest.raises(TooLargeError, match="unpacks to more than 100 bytes"):
        read_band_file(zipped({"00/POSCAR": POSCAR, "01/POSCAR": POSCAR}), Limits(max_unpacked_bytes=100))


def test_latin_1_and_a_byte_order_mark_are_read() -> None:
    named_author = CIF.replace("data_test", "data_test\n_publ_author_name 'H. Müller'")
    assert read_crystal(file(named_author.encode("latin-1")), LIMITS).formula == "Li1 O1"
    assert read_crystal(file(CIF.encode("utf-8-sig")), LIMITS).formula == "Li1 O1"
    assert read_crystal(file(CIF.replace("\n", "\r\n").encode("utf-16")), LIMITS).formula == "Li1 O1"


def test_several_structures_in_a_cif_give_the_first_with_a_warning() -> None:
    found = read_crystal(file(CIF + CIF.replace("data_test", "data_other").replace("Li", "Na"), "two.cif"), LIMITS)
    assert found.formula == "Li1 O1"
    assert "2 structures; the first, test, was read" in found.warnings[0]


def problem(call: Callable[[], object]) -> str:
    """The kind of problem that a call meets, "none" where it goes through."""
    try:
        call()
    except InputError as error:
        return error.kind
    return "none"


def test_blank_lines_of_a_cif_change_nothing() -> None:
    blank = "\n" + " \t\r\n" * 100_000
    found = read_crystal(file(blank + CIF.replace("loop_", f"{blank}loop_") + blank), LIMITS)
    assert found.formula == "Li1 O1"


@pytest.mark.parametrize(
    ("formula", "rows"),
    [
        ("Li1 O2", ("Li Li1 0 0 0 1", "O O1 0.5 0.5 0.5 1")),  # half of the last element
        ("Li2 O2", ("Li Li1 0 0 0 1", "O O1 0.5 0.5 0.5 1")),  # units one after the other, and one of two
        ("Li1 O1 P1", ("Li Li1 0 0 0 1", "O O1 0.5 0.5 0.5 1")),  # all of an element
        # a formula is as long as its file, and is quoted
        ("Li1 O1 " + " ".join(f"{a}{b}1" for a in "PRST" for b in "abcdefg") * 99, ("Li Li1 0 0 0 1",)),
    ],
)
def test_a_cif_that_was_cut_between_two_atoms_is_refused_where_its_formula_tells(
    formula: str, rows: tuple[str, ...]
) -> None:
    head = CIF[: CIF.index(" Li Li1")].replace("'Li1 O1'", f"'{formula}'")
    with pytest.raises(FormatError, match="is cut short: fewer") as caught:
        read_crystal(file(head + "\n".join(rows) + "\n"), LIMITS)
    assert caught.value.kind == "truncated-cif"
    assert "no _chemical_formula_sum" in str(caught.value.expected)
    assert len(caught.value.detail) < 300
    more = "loop_\n _atom_type_symbol\n _atom_type_oxidation_number\n Li 1\n O -2\n"
    found = read_crystal(file(head + "\n".join(rows) + "\n" + more), LIMITS)  # it goes on: not cut there
    assert any("fewer" in warning for warning in found.warnings)


def test_a_cif_with_a_vacancy_beside_its_formula_is_read_with_a_warning() -> None:
    found = read_crystal(file(CIF.replace("'Li1 O1'", "'Li2 O1'")), LIMITS)
    assert any("fewer Li atoms are listed than its formula" in warning for warning in found.warnings)


def test_broken_files_never_raise_anything_but_an_input_error(data_dir: Path) -> None:
    generator = np.random.default_rng(7)
    reading = read_json_band(band(), LIMITS)
    sources: list[tuple[bytes, Callable[[File, Limits], object]]] = [
        ((data_dir / "cifs" / "fwz.cif").read_bytes(), read_crystal),
        (POSCAR.encode(), read_crystal),
        (band_to_extxyz(reading.band).encode(), read_band_file),
        (band_to_poscar_zip(reading.band), read_band_file),
        (band(), read_band_file),
    ]
    kinds: list[str] = []
    for content, read in sources:
        for _ in range(60):
            broken = bytearray(content[: generator.integers(1, len(content))])
            for at in generator.integers(0, len(broken), size=generator.integers(0, 4)):
                broken[at] = generator.integers(0, 256)
            kinds.append(problem(lambda: read(file(bytes(broken)), LIMITS)))  # noqa: B023 - called at once
    assert len(set(kinds)) > 7
    assert InputError.default_kind not in kinds


def test_atoms_on_top_of_each_other_may_have_coordinates_of_another_kind() -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: crystal(POSCAR.replace("0.5 0.5 0.5", "0.01 0.01 0.01")),
        lambda: crystal(CIF.replace("0.5 0.5 0.5", "0 0 0")),
        lambda: json_band(host_frac_coords=[[0.5, 0.5, 0.5], [0.5, 0.5, 0.51]]),
    )
    for call in calls:
        with pytest.raises(InputError) as caught:
            call()
        assert caught.value.kind == "atoms-overlap"
        assert "may be Cartesian in place of fractional, fractional in place" in str(caught.value.expected)
