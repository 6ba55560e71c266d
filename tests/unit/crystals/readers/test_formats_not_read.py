"""Files of other programs are named, and the line that converts one makes a file that is read."""

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import orjson
import pytest
from cifs import cif
from written_formats import (
    crystal,
    poscar,
    structure,
    zipped,
)

from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file, read_crystal
from app.errors import UnsupportedError

LIMITS = Limits()


LAMMPS = (
    b"made up\n\n2 atoms\n2 atom types\n\n0.0 8.0 xlo xhi\n0 8 ylo yhi\n0 8 zlo zhi\n\nAtoms # atomic\n\n"
    b"1 1 0 0 0\n2 2 4 4 4\n"
)
CUBE = (
    b"density\nof what\n 2 0.0 0.0 0.0\n 2 3.779452 0.000000 0.000000\n 2 0.0 3.779452 0.0\n 2 0.0 0.0 3.779452\n"
    b" 3 0.0 0.0 0.0 0.0\n 8 0.0 3.779452 3.779452 3.779452\n 0 0 0 0 0 0 0 0\n"
)
ABINIT = (
    b"acell 7.558904 7.558904 7.558904\nrprim 1 0 0 0 1 0 0 0 1\nnatom 2 ntypat 2 znucl 3 8\ntypat 1 2\n"
    b"xred\n0 0 0\n0.5 0.5 0.5\n"
)
FORT_34 = b"3 1 1\n4.0 0 0\n0 4.0 0\n0 0 4.0\n1\n1 0 0\n0 1 0\n0 0 1\n0 0 0\n2\n3 0.0 0.0 0.0\n8 2.0 2.0 2.0\n"
WIEN2K = (
    b"LiO\nP   LATTICE,NONEQUIV.ATOMS:  2 1_P1\nMODE OF CALC=RELA unit=bohr\n"
    b"  7.558904  7.558904  7.558904 90.000000 90.000000 90.000000\n"
    + b"".join(
        b"ATOM  -%d: X=%s Y=%s Z=%s\n          MULT= 1          ISPLIT= 8\n"
        b"%s        NPT=  781  R0=0.00010000 RMT=    1.5000   Z:  %s\n"
        b"LOCAL ROT MATRIX:    1.0000000 0.0000000 0.0000000\n                     0.0000000 1.0000000 0.0000000\n"
        b"                     0.0000000 0.0000000 1.0000000\n" % (number, x, x, x, label, charge)
        for number, x, label, charge in ((1, b"0.00000000", b"Li1", b"3.00000"), (2, b"0.50000000", b"O 1", b"8.00000"))
    )
    + b"   0      NUMBER OF SYMMETRY OPERATIONS\n"
)
EXCITING = (
    b'<?xml version="1.0"?>\n<input><title>x</title><structure speciespath="./"><crystal scale="1.8897261">'
    b"<basevect>4 0 0</basevect><basevect>0 4 0</basevect><basevect>0 0 4</basevect></crystal>"
    b'<species speciesfile="Li.xml"><atom coord="0 0 0"/></species>'
    b'<species speciesfile="O.xml"><atom coord="0.5 0.5 0.5"/></species></structure></input>\n'
)
CSSR = (
    b"4.0000 4.0000 4.0000\n90.00 90.00 90.00 SPGR =  1 P 1    OPT = 1\n2 0\n0 Li1 O1\n"
    b"1 Li 0.0000 0.0000 0.0000\n2 O 0.5000 0.5000 0.5000\n"
)
JARVIS = orjson.dumps(
    {
        "lattice_mat": [[4, 0, 0], [0, 4, 0], [0, 0, 4]],
        "coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
        "elements": ["Li", "O"],
        "cartesian": False,
    }
)
CIF_INSIDE = orjson.dumps(
    {"material_id": "x", "cif": cif(cell=(8.0,), atoms=("Li1 Li 0 0 0 1", "O1 O 0.5 0.5 0.5 1"), symbol="P 1")}
)
ONETEP = (
    b"%block lattice_cart\n7.558904 0 0\n0 7.558904 0\n0 0 7.558904\n%endblock lattice_cart\n"
    b"%block species\nLi Li 3 4 8.0\nO O 8 4 8.0\n%endblock species\n"
    b"%block positions_abs\nLi 0 0 0\nO 3.779452 3.779452 3.779452\n%endblock positions_abs\n"
)
OTHERS = {
    "x.vesta": (b"#VESTA_FORMAT_VERSION 3.5.4\n\nCRYSTAL\n\nTITLE\nx\n", "a file of VESTA"),
    "x.abi": (ABINIT, "an ABINIT input"),
    "x.gin": (
        b"opti conp\ncell\n4 4 4 90 90 90\nfractional\nLi core 0.0 0.0 0.0\nO shel 0.5 0.5 0.5\n",
        "a GULP input",
    ),
    "x.d12": (b"LiFePO4\nCRYSTAL\n0 0 0\n62\n10.332 6.010 4.692\n1\n3 0 0 0\nEND\n", "a CRYSTAL input"),
    "fort.34": (FORT_34, "a geometry of CRYSTAL (fort.34)"),
    "input.xml": (EXCITING, "an input of exciting (XML)"),
    "x.struct": (WIEN2K, "a WIEN2k struct file"),
    "x.mol": (b"x\n  made up\n\n  1  0  0  0  0  0            999 V2000\n    0.0    0.0    0.0 Li  0\n", "a MOL file"),
    "phonopy.yaml": (b"unit_cell:\n  lattice:\n  - [ 4, 0, 0 ] # a\n  - [ 0, 4, 0 ]\n", "a YAML file of phonopy"),
    "aims.out": (b"-----\n          Invoking FHI-aims ...\n\n", "an output of FHI-aims"),
    "coord": (
        b"$coord\n0.0 0.0 0.0 li\n9.7 0.0 4.4 li\n9.7 5.6 4.4 fe\n0.0 5.6 0.0 o\n$end\n",
        "a coord file of Turbomole",
    ),
    "jarvis.json": (JARVIS, "JSON of JARVIS"),
    "dft_3d.json": (orjson.dumps({"jid": "x", "atoms": orjson.loads(JARVIS)}), "JSON of JARVIS"),
    "mp.json": (CIF_INSIDE, "JSON with a CIF inside"),
    "by_ints.cube": (CUBE.replace(b" 0.0", b" 0"), "a Gaussian cube file"),
    "cssr.txt": (CSSR, "a CSSR file"),
    "onetep.dat": (ONETEP, "a CASTEP cell file or an ONETEP input"),
    "login.cif": (b"\n<!DOCTYPE html>\n<html lang='en'><title>Log in</title></html>\n", "a page of the web (HTML)"),
    "xhtml.cif": (b"<?xml version='1.0'?>\n<!-- a -- b -->\n<html>\ndata_layer\n</html>", "a page of the web (HTML)"),
    "figure.png": (b"\x89PNG\r\n\x1a\n\x00\x00", "a picture (PNG)"),
    "figure.cif": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a picture (JPEG)"),
    "letter.docx": (zipped({"[Content_Types].xml": b"", "word/document.xml": b"<w/>"}), "a Word document"),
    "table.xlsx": (zipped({"[Content_Types].xml": b"", "xl/workbook.xml": b"<w/>"}), "an Excel workbook"),
    "lammps.data": (LAMMPS, "a LAMMPS data file"),
    "dump.lammpstrj": (b"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\n", "a LAMMPS dump"),
    "run.cell": (
        b"%BLOCK LATTICE_CART\n5 0 0\n0 5 0\n0 0 5\n%ENDBLOCK LATTICE_CART\n",
        "a CASTEP cell file or an ONETEP",
    ),
    "geometry.in": (b"# made up\nlattice_vector 5 0 0\nlattice_vector 0 5 0\n", "an FHI-aims geometry.in"),
    "zeolite.cssr": (b" 24.55 24.55 24.55\n 90 90 90 SPGR = 1\n 1 0\n", "a CSSR file"),
    "paper.pdf": (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
    "1abc.cif": (b"data_1ABC\nloop_\n_atom_site.group_PDB\n_atom_site.Cartn_x\nATOM 1.0\n", "an mmCIF of a protein"),
    "pw.out": (b"\n     Program PWSCF v.7.2 starts on  1Jan2024 at 12: 0: 0\n", "an output of Quantum ESPRESSO's pw.x"),
    "cp2k.inp": (b"! made up\n&FORCE_EVAL\n &SUBSYS\n  &CELL\n  ABC 5 5 5\n  &END CELL\n", "a CP2K input or restart"),
    "run.restart": (b" # Version information for this restart file\n &EXT_RESTART\n &END\n", "a CP2K input or restart"),
    "run.fdf": (b"SystemName x\n%block ChemicalSpeciesLabel\n1 3 Li\n%endblock\n", "a SIESTA input"),
    "cell.fdf": (b"SystemName x\n%block lattice_vectors\n1 0 0\n0 1 0\n0 0 1\n%endblock\n", "a SIESTA input"),
    "density.cube": (CUBE, "a Gaussian cube file"),
    "geo.gen": (b"2  S\nLi O\n 1 1 0.0 0.0 0.0\n 2 2 2.0 2.0 2.0\n 0 0 0\n 4 0 0\n", "a geometry of DFTB+"),
    "a.ins": (b"TITL x\nREM y\nCELL 0.71073 10.332 6.010 4.692 90 90 90\nZERR 4 0 0 0 0 0 0\nLATT 1\n", "a SHELX file"),
    "b.res": (b"TITL \nCELL 1.0 4.0 4.0 4.0 90.0 90.0 90.0\nLATT -1\nSFAC Li O\nLi 1 0 0 0 1\n", "a SHELX file"),
    "pw.in": (b"&CONTROL\n calculation='scf'\n/\n", "a Quantum ESPRESSO input"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_read_is_named_with_the_line_that_converts_it(name: str) -> None:
    content, what = OTHERS[name]
    for read in (read_band_file, read_crystal):
        with pytest.raises(UnsupportedError, match=re.escape(what)) as refused:
            read(File(name=name, content=content), LIMITS)
        assert refused.value.kind == "format-not-read"
        assert refused.value.expected
        assert "{" not in refused.value.expected


def test_a_crystal_beside_a_document_in_a_zip_is_read() -> None:
    document = zipped({"word/document.xml": b"<w/>"})  # stored, so that its names are bytes of the archive's
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("letter.docx", document)
        archive.writestr("POSCAR", poscar(structure()))
    assert read_crystal(File(name="both.zip", content=packed.getvalue()), LIMITS).formula == crystal().formula


def test_the_line_that_converts_a_lammps_data_file_does(tmp_path: Path) -> None:
    (tmp_path / "lammps.data").write_bytes(LAMMPS)
    with pytest.raises(UnsupportedError) as refused:
        read_crystal(File(name="lammps.data", content=LAMMPS), LIMITS)
    line = re.search(r'python -c "([^"]+)"', str(refused.value.expected))
    assert line is not None
    subprocess.run([sys.executable, "-c", line[1]], cwd=tmp_path, check=True)
    written = File(name="structure.extxyz", content=(tmp_path / "structure.extxyz").read_bytes())
    assert read_crystal(written, LIMITS).formula == "Li1 O1"


GEN = b"2 S\nLi O\n1 1 0 0 0\n2 2 2 2 2\n0 0 0\n4 0 0\n0 4 0\n0 0 4\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [("density.cube", CUBE), ("geo.gen", GEN), ("x.abi", ABINIT), ("fort.34", FORT_34), ("x.struct", WIEN2K)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_line_that_converts_a_file_with_ase_does(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnsupportedError) as refused:
        read_crystal(File(name=name, content=content), LIMITS)
    line = re.search("`ase ([^`]+)`", str(refused.value.expected))
    assert line is not None
    subprocess.run([sys.executable, "-m", "ase", *line[1].split()], cwd=tmp_path, check=True)
    written = File(name="structure.extxyz", content=(tmp_path / "structure.extxyz").read_bytes())
    assert read_crystal(written, LIMITS).formula == "Li1 O1"


def test_the_line_that_converts_an_onetep_input_takes_its_lengths_in_bohr(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(ONETEP)
    with pytest.raises(UnsupportedError) as refused:
        read_crystal(File(name="x.dat", content=ONETEP), LIMITS)
    line = re.search("`ase (convert -i onetep-in [^`]+)`", str(refused.value.expected))
    assert line is not None
    subprocess.run([sys.executable, "-m", "ase", *line[1].split()], cwd=tmp_path, check=True)
    written = File(name="structure.extxyz", content=(tmp_path / "structure.extxyz").read_bytes())
    assert read_crystal(written, LIMITS).lattice_angstrom[0, 0] == pytest.approx(4.0, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "content", "writes"),
    [
        ("input.xml", EXCITING, "structure.cif"),
        ("x.cssr", CSSR, "structure.cif"),
        ("mp.json", CIF_INSIDE, "structure.cif"),
        ("jarvis.json", JARVIS, "structure.extxyz"),
        ("cartesian.json", JARVIS.replace(b"false", b"true").replace(b"0.5", b"2.0"), "structure.extxyz"),
    ],
)
def test_the_line_that_converts_a_file_with_python_does(name: str, content: bytes, writes: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnsupportedError) as refused:
        read_crystal(File(name=name, content=content), LIMITS)
    line = re.search(r'python -c "([^"]+)"', str(refused.value.expected))
    assert line is not None
    subprocess.run([sys.executable, "-c", line[1]], cwd=tmp_path, check=True)
    read = read_crystal(File(name=writes, content=(tmp_path / writes).read_bytes()), LIMITS)
    assert read.formula == "Li1 O1"
    assert [site.frac_coords for site in read.sites][1] == pytest.approx((0.5, 0.5, 0.5), abs=1e-4)


def test_a_cif_with_the_file_of_shelxl_inside_is_read() -> None:
    inside = "_shelx_res_file\n;\nTITL x\nCELL 0.71073 8 8 8 90 90 90\nZERR 1 0 0 0 0 0 0\nLATT -1\nSFAC LI O\n;\n"
    text = cif(cell=(8.0,), atoms=("Li1 Li 0 0 0 1", "O1 O 0.5 0.5 0.5 1"), symbol="P 1")
    packed = text.replace("loop_", f"{inside}loop_", 1)
    assert read_crystal(File(name="x.cif", content=packed.encode()), LIMITS).formula == "Li1 O1"


def test_an_xyz_with_atomic_numbers_is_no_cube() -> None:
    rows = "".join(f"{number} {x} 0.0 0.0\n" for number, x in ((3, "0.0"), (8, "2.0"), (3, "4.0"), (8, "6.0")))
    text = f'4\nLattice="8 0 0 0 8 0 0 0 8" Properties=Z:I:1:pos:R:3\n{rows}'
    assert read_crystal(File(name="x.xyz", content=text.encode()), LIMITS).formula == "Li2 O2"
