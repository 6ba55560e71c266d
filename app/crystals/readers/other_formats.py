"""Files that are not read, recognised by content or name, each with the line that converts it."""

import io
import re
import zipfile

from app.crystals.readers.archive import BROKEN
from app.crystals.readers.numbers import NUMBER
from app.crystals.readers.reading import File
from app.errors import UnsupportedError

_ASE = "convert it with ASE: `ase convert {name} structure.extxyz` and send structure.extxyz"
_LIST = "`python -c \"from ase.io import read, write; write('band.extxyz', read('{name}', ':'{more}))\"`"

_PICTURED = "the structure file that the picture was made from, such as a CIF"
_ITSELF = "the structure file itself, such as a CIF"
_LAMMPS_DATA = (
    'a conversion with ASE, where each type gets its atomic number, here lithium and oxygen: `python -c "from ase.io '
    "import read, write; write('structure.extxyz', read('{name}', format='lammps-data', Z_of_type=dict([(1, 3), "
    '(2, 8)])))"`'
)
_AS = "convert it with ASE: `ase convert -i {form} {name} structure.extxyz` and send structure.extxyz"
_CSSR = (
    'a conversion with pymatgen: `python -c "from pymatgen.io.cssr import Cssr; '
    "Cssr.from_file('{name}').structure.to('structure.cif')\"`"
)
_SHELX = (
    "the CIF that SHELXL writes with the instruction ACTA; of a file without SYMM and with LATT -1, as AIRSS writes, "
    'a conversion with pymatgen: `python -c "from pymatgen.core import Structure; '
    "Structure.from_file('{name}').to('structure.cif')\"`"
)
_SIESTA = "the last structure, which SIESTA writes to SystemLabel.XV and which is read here"
_ABINIT = (
    "convert it with ASE: `ase convert -i abinit-in {name} structure.extxyz` and send structure.extxyz; ASE asks for "
    "rprim, and for acell as three numbers, not 3*4.0"
)
_CRYSTAL = (
    "the fort.34 that CRYSTAL writes with the keyword EXTPRT, converted with ASE: `ase convert -i crystal fort.34 "
    "structure.extxyz`"
)
#: A length without a unit is in angstrom in a cell file of CASTEP, and in bohr in an ONETEP input.
_CASTEP = (
    "a conversion with ASE; of CASTEP: `ase convert -i castep-cell {name} structure.extxyz`; of ONETEP, whose lengths "
    "are in bohr: `ase convert -i onetep-in {name} structure.extxyz`"
)
_EXCITING = (
    'a conversion with pymatgen: `python -c "from pymatgen.io.exciting import ExcitingInput; '
    "ExcitingInput.from_file('{name}').structure.to('structure.cif')\"`"
)
_TURBOMOLE = (
    "the crystal as a CIF; or converted with ASE, `ase convert -i turbomole {name} structure.extxyz`, and "
    "structure.extxyz with the cell in the form field `cell`, since ASE leaves the cell out"
)
_JARVIS = (
    "a conversion with ASE: `python -c \"import json; from ase import Atoms; a = json.load(open('{name}')); "
    "a = a.get('atoms', a); b = Atoms(a['elements'], cell=a['lattice_mat'], pbc=True); "
    "(b.set_positions if a.get('cartesian') else b.set_scaled_positions)(a['coords']); b.write('structure.extxyz')\"`"
)
_CIF_INSIDE = (
    'the text of `cif` in a file of its own: `python -c "import json; '
    "open('structure.cif', 'w').write(json.load(open('{name}'))['cif'])\"`"
)
_CP2K = (
    "the restart file that CP2K writes, which has the vectors A, B and C of the cell, converted with ASE: `ase convert "
    "-i cp2k-restart PROJECT-1.restart structure.extxyz`"
)

#: What a file begins with, what it is, and what to do.
_BINARY: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF", "a PDF", "the structure file of the paper's supporting information, such as a CIF"),
    (
        b"PickleTrajectory",
        "a trajectory of ASE before 2014, a pickle, which is never loaded",
        f"{_LIST} with an old ASE",
    ),
    (b"\x89PNG", "a picture (PNG)", _PICTURED),
    (b"\xff\xd8\xff", "a picture (JPEG)", _PICTURED),
    (b"\x80", "a pickle, which is never loaded", "the structure as a CIF, POSCAR or extended XYZ"),
    (b"\x89HDF", "an HDF5 file", _ASE),
    (b"CDF", "a NetCDF file", _ASE),
)
#: A pattern in the first bytes of a text, what it is, and what to do. Possessive quantifiers do not backtrack.
_TEXT: tuple[tuple[str, str, str], ...] = (
    (r"\A\s*+ITEM: (?:TIMESTEP|UNITS|TIME)\b", "a LAMMPS dump", _LIST.replace("{more}", ", format='lammps-dump-text'")),
    (r"^[ \t]*+[-+.\d]\S*+[ \t]++[-+.\d]\S*+[ \t]++xlo[ \t]++xhi\b", "a LAMMPS data file", _LAMMPS_DATA),
    (
        r"\A\s*+(?:<\?xml[^>]*+>\s*+)?+(?:<!--(?:[^-]|-(?!->))*+-->\s*+)*+<(?:!doctype\s++html|html|head|body)\b",
        "a page of the web (HTML)",
        "the structure file itself: its address gave a page, perhaps one to log in; save the file from a browser",
    ),
    (r"\A\s*+#VESTA_FORMAT_VERSION\b", "a file of VESTA", "the CIF that VESTA writes with File > Export Data"),
    (r"\A\s*+\$coord\b", "a coord file of Turbomole", _TURBOMOLE),
    (
        r"^[ \t]*+%block[ \t]++(?:lattice_(?:cart|abc)|positions_(?:frac|abs))",
        "a CASTEP cell file or an ONETEP input",
        _CASTEP,
    ),
    (r"\bznucl[ \t=]++\d", "an ABINIT input", _ABINIT),
    (
        r"^[ \t]*+[A-Z][a-z]?\d*+[ \t]++(?:core|shel)[ \t]++[-+.\d]",
        "a GULP input",
        "the CIF that GULP writes with the line `output cif structure`",
    ),
    (r"\A[^\n]*+\n[ \t]*+CRYSTAL[ \t]*+\n[ \t]*+\d[ \t]++\d[ \t]++\d[ \t]*+\n", "a CRYSTAL input", _CRYSTAL),
    (
        (
            r"\A[ \t]*+3[ \t]++\d[ \t]++\d[^\n]*+\n"
            rf"(?:[ \t]*+{NUMBER}[ \t]++{NUMBER}[ \t]++{NUMBER}[ \t]*+\n){{3}}[ \t]*+\d++[ \t]*+\n"
        ),
        "a geometry of CRYSTAL (fort.34)",
        _AS.replace("{form}", "crystal"),
    ),
    (r"<structure\b[^<>]*?\bspeciespath\b", "an input of exciting (XML)", _EXCITING),
    (r"^[A-Z]{1,3}[ \t]++LATTICE,[ \t]*+NONEQUIV", "a WIEN2k struct file", _AS.replace("{form}", "struct")),
    (
        r"\A(?:[^\n]*+\n){3}[^\n]*\bV[23]000[ \t]*+$",
        "a MOL file of a molecule",
        "the crystal as a CIF",
    ),
    (
        r"^[ \t]*+lattice:[ \t]*+(?:#[^\n]*+)?\n[ \t]*+-[ \t]*+\[",
        "a YAML file of phonopy",
        "the crystal that phonopy was run on, such as its POSCAR",
    ),
    (
        r"^[ \t]*+Invoking FHI-aims\b",
        "an output of FHI-aims",
        _AS.replace("{form}", "aims-output"),
    ),
    (r"^[ \t]*+lattice_vector(?:[ \t]++[-+.\d]\S*+){3}[ \t]*+$", "an FHI-aims geometry.in", _ASE),
    (r"^[ \t]*+&(?:control|system)\b", "a Quantum ESPRESSO input", _ASE),
    (r"^[ \t]*+Program PWSCF\b", "an output of Quantum ESPRESSO's pw.x", _AS.replace("{form}", "espresso-out")),
    (r"^[ \t]*+&(?:force_eval|ext_restart)\b", "a CP2K input or restart file", _CP2K),
    (
        r"^[ \t]*+%block[ \t]++(?:chemical|lattice|atomic)[-_.]?(?:species|vectors|coord)",
        "a SIESTA input (fdf)",
        _SIESTA,
    ),
    (
        r"\A[ \t]*+\d++[ \t]++[SF][ \t]*+\n(?:[ \t]*+[A-Z][a-z]?\b)++[ \t]*+\n[ \t]*+1[ \t]++1[ \t]",
        "a geometry of DFTB+ (gen)",
        _AS.replace("{form}", "gen"),
    ),
    (
        # an XYZ begins with its number of atoms
        (
            r"\A(?!\s*+\d++[ \t]*+\n)[^\n]*+\n[^\n]*+\n"
            rf"(?:[ \t]*+-?\d++(?:[ \t]++{NUMBER}){{3}}(?:[ \t]++\d++)?[ \t]*+\n){{4}}"
        ),
        "a Gaussian cube file",
        _AS.replace("{form}", "cube"),
    ),
    (r"\A[^\n]*+\n[^\n]*\bSPGR[ \t]*+=", "a CSSR file", _CSSR),
    # at the start alone: CIFs have such a file inside
    (
        r"\A\s*+(?:(?:TITL|REM)\b[^\n]*+\n\s*+)*+CELL(?:[ \t]++\d++\.?+\d*+){7}[ \t]*+\n",
        "a SHELX file (.ins, .res)",
        _SHELX,
    ),
    (r"\A(?:HEADER|CRYST1|ATOM  |HETATM|REMARK) ", "a PDB file of a molecule", "a crystal as a CIF"),
    (r"^_atom_site\.(?:Cartn_x|label_asym_id)\b", "an mmCIF of a protein", "an inorganic crystal as a CIF"),
)
_NAMES: tuple[tuple[str, str, str], ...] = (
    (r"(?i)\.cssr\Z", "a CSSR file", _CSSR),
    (r"(?i)\.(?:res|ins)\Z", "a SHELX file (.ins, .res)", _SHELX),
    (r"(?i)\.docx?\Z|\.xlsx?\Z", "an office document", _ITSELF),
)
#: Of zips that are no archives, a file that is in each.
_DOCUMENTS = {"word/document.xml": "a Word document", "xl/workbook.xml": "an Excel workbook"}
_HEAD_BYTES = 20_000


def refuse_other_format(file: File, text: str | None) -> None:
    """Refuse a file of a known format that is not read.

    Args:
        file: as it was uploaded.
        text: of it, where its bytes are text.

    Raises:
        UnsupportedError: kind "format-not-read"; it says what the file is and how to convert it.
    """
    name = file.name
    if text is None:
        found = next((entry for entry in _BINARY if file.content.startswith(entry[0])), None)
    else:
        head = text[:_HEAD_BYTES]
        found = next((entry for entry in _TEXT if re.search(entry[0], head, re.MULTILINE | re.IGNORECASE)), None)  # type: ignore[assignment]
    if found is not None:
        raise _not_read(name, found[1], found[2])


def refuse_other_json(record: object, name: str) -> None:
    """Refuse JSON of a known form that is not read.

    Args:
        record: the parsed JSON.
        name: of the file.

    Raises:
        UnsupportedError: kind "format-not-read"; it says what the file is and how to convert it.
    """
    if not isinstance(record, dict):
        return
    if isinstance(record.get("cif"), str):
        raise _not_read(name, "JSON with a CIF inside", _CIF_INSIDE)
    atoms = record.get("atoms")
    if "lattice_mat" in (atoms if isinstance(atoms, dict) else record):
        raise _not_read(name, "JSON of JARVIS", _JARVIS)


def refuse_document(file: File) -> None:
    """Refuse a zip that is an office document.

    Raises:
        UnsupportedError: kind "format-not-read".
    """
    if not any(inner.encode() in file.content for inner in _DOCUMENTS):
        return  # nearly every zip, of which nothing need be read for it
    try:
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            names = set(archive.namelist())
    except BROKEN:
        return
    for inner, what in _DOCUMENTS.items():
        if inner in names:
            raise _not_read(file.name, what, _ITSELF)


def refuse_by_name(file: File) -> None:
    """Refuse a file in which no format was recognised and whose name says what it is.

    Raises:
        UnsupportedError: kind "format-not-read".
    """
    for pattern, what, convert in _NAMES:
        if re.search(pattern, file.name):
            raise _not_read(file.name, what, convert)


def _not_read(name: str, what: str, convert: str) -> UnsupportedError:
    shown = re.sub(r"[^\w.+-]", "_", re.split("/|: ", name)[-1])[-60:] or "FILE"
    return UnsupportedError(
        f"{name} is {what}, which is not read here.",
        kind="format-not-read",
        where=name,
        expected=convert.replace("{name}", shown).replace("{more}", ""),
    )
