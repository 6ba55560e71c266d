"""OBELiX: measured conductivities of lithium conductors and their CIFs, from a table and a folder of CIFs."""

import csv
import io
import math
import re
import tarfile
from pathlib import Path

from training.conversion.tables import ConversionError, Converted, check_new, read_table, write_whole

CONDUCTIVITIES_FILE = Path("conductivity") / "obelix.csv"
CIFS_FILE = Path("conductivity") / "cifs.tar.xz"
#: Our columns, and the headings under which they are found: letters and digits alone, in lower case.
_HEADINGS = {
    "id": ("id",),
    "composition": ("composition", "reducedcomposition", "truecomposition"),
    "family": ("family",),
    "conductivity_s_per_cm": ("conductivityspercm", "ionicconductivityscm1"),
    "space_group_number": ("spacegroupnumber",),
    "a_angstrom": ("aangstrom", "a"),
    "b_angstrom": ("bangstrom", "b"),
    "c_angstrom": ("cangstrom", "c"),
    "alpha_degree": ("alphadegree", "alpha"),
    "beta_degree": ("betadegree", "beta"),
    "gamma_degree": ("gammadegree", "gamma"),
    "cif_of_a_close_match": ("cifofaclosematch", "closematch"),
    "doi": ("doi",),
}
_COLUMNS = (
    *("id", "composition", "family", "conductivity_s_per_cm", "upper_bound", "space_group_number"),
    *("a_angstrom", "b_angstrom", "c_angstrom", "alpha_degree", "beta_degree", "gamma_degree"),
    *("has_cif", "cif_of_a_close_match", "doi", "fold_family", "fold_random"),
)
_NO = frozenset({"", "0", "no", "false", "nan", "none"})
_EXPECTED = (
    "a folder with a table (.csv) that has the columns ID, Composition, Family, Ionic conductivity (S cm-1), Space "
    "group number, a, b, c, alpha, beta, gamma, Close match and DOI, and CIFs that are named ID.cif"
)


def convert_obelix(published: Path, data: Path) -> Converted:
    """Write `conductivity/obelix.csv` and `conductivity/cifs.tar.xz` of a data folder.

    A conductivity written as "<1E-10" is an upper bound.

    Raises:
        ConversionError: the folder is laid out differently, or the output exists.
    """
    path, archive = data / CONDUCTIVITIES_FILE, data / CIFS_FILE
    check_new(path)
    check_new(archive)
    rows = _rows(published)
    table = read_table("obelix")
    cifs = {one.stem: one for one in sorted(published.rglob("*.cif"))}
    kept = [_row(rows[name], table[name], has_cif=name in cifs) for name in table if name in rows]
    if not kept:
        raise ConversionError(f"{published} has no row that has a fold here; expected: {_EXPECTED}")
    write_whole(archive, _packed([cifs[row["id"]] for row in kept if row["has_cif"] == "1"]))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)
    write_whole(path, text.getvalue().encode())
    return Converted(
        path=path, rows=len(kept), left_out=len(rows) - len(kept), missing=len(table) - len(kept), notes=()
    )


def _rows(published: Path) -> dict[str, dict[str, str]]:
    """The rows of every table of the folder that has the columns, by id and under our names."""
    found: dict[str, dict[str, str]] = {}
    lacking: list[str] = []
    for path in sorted(published.rglob("*.csv")):
        with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
            reader = csv.DictReader(file)
            named = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reader.fieldnames or ()}
            columns = {
                ours: next((named[one] for one in theirs if one in named), None) for ours, theirs in _HEADINGS.items()
            }
            bound = named.get("upperbound")
            if missing := [ours for ours, theirs in columns.items() if theirs is None]:
                lacking.append(f"{path.name} has no {', '.join(missing)}")
                continue
            for row in reader:
                taken = {ours: (row[theirs] or "").strip() for ours, theirs in columns.items() if theirs}
                taken["upper_bound"] = (row[bound] or "").strip() if bound else ""
                found[taken["id"]] = taken
    if not found:
        raise ConversionError(f"{published}: {'; '.join(lacking) or 'no table'}; expected: {_EXPECTED}")
    return found


def _row(row: dict[str, str], folds: dict[str, int], *, has_cif: bool) -> dict[str, str]:
    text = row["conductivity_s_per_cm"]
    bound = text.startswith("<") or row["upper_bound"].lower() not in _NO
    try:
        conductivity = float(text.lstrip("<= "))
    except ValueError:
        conductivity = math.nan
    if not 0.0 < conductivity < math.inf:
        raise ConversionError(
            f"row {row['id']}: {text!r} is no conductivity in S/cm above zero; expected: 1.2e-4, <1e-10"
        )
    return {
        **row,
        "conductivity_s_per_cm": f"{conductivity:g}",
        "upper_bound": str(int(bound)),
        "has_cif": str(int(has_cif)),
        "cif_of_a_close_match": str(int(has_cif and row["cif_of_a_close_match"].lower() not in _NO)),
        **{folding: str(number) for folding, number in folds.items()},
    }


def _packed(paths: list[Path]) -> bytes:
    """A tar of files without their dates and owners: equal files give equal bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for path in paths:
            content = path.read_bytes()
            entry = tarfile.TarInfo(f"cifs/{path.name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
