"""Archives of NEB folders: names as programs write them, and end points that seem to be missing."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Sequence

import pytest

from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file
from app.crystals.readers.reading import Reading
from app.errors import FormatError

POSCAR = "title\n1\n8 0 0\n0 8 0\n0 0 8\nLi O\n1 1\nDirect\n{x} 0 0\n0.5 0.5 0.5\n"


def folders(numbers: Sequence[str], incar: str | None = None) -> dict[str, str]:
    """An NEB run in which lithium moves by 0.8 angstrom from folder to folder."""
    files = {f"neb/{number}/POSCAR": POSCAR.format(x=k / 10) for k, number in enumerate(numbers)}
    return files if incar is None else {**files, "neb/INCAR": incar}


def zipped(files: dict[str, str]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return written.getvalue()


def tarred(files: dict[str, str]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return written.getvalue()


def read(content: bytes) -> Reading:
    return read_band_file(File(name="neb.zip", content=content), Limits())


AIMS = "lattice_vector 8 0 0\nlattice_vector 0 8 0\nlattice_vector 0 0 8\natom_frac 0 0 0 Li\n"
CELL = "%BLOCK LATTICE_CART\n8 0 0\n0 8 0\n0 0 8\n%ENDBLOCK LATTICE_CART\n"
DAT = "0.0000000000 0.0000000000 0.01\n1.0000000000 0.1000000000 0.01\n"


@pytest.mark.parametrize(
    ("files", "named", "hint"),
    [
        (
            {f"image00{k}/geometry.in": AIMS for k in range(3)},
            "neb.zip: image000/geometry.in is an FHI-aims geometry.in",
            "`ase convert geometry.in structure.extxyz`",
        ),
        (
            {f"image_{k}.cell": CELL for k in range(3)},
            "neb.zip: image_0.cell is a CASTEP cell file",
            "`ase convert -i castep-cell image_0.cell structure.extxyz`",
        ),
        ({"a.log": "made up", "x.dat": DAT, "x.int": DAT}, "neb.zip: x.dat is a table of the energies", "the .axsf"),
    ],
)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_files_that_are_not_read_are_named_in_an_archive_too(
    files: dict[str, str], named: str, hint: str, pack: Callable[[dict[str, str]], bytes]
) -> None:
    with pytest.raises(FormatError) as refused:
        read(pack(files))
    assert refused.value.kind == "no-images"
    assert named in str(refused.value)
    assert hint in str(refused.value.expected)


def test_an_archive_of_nothing_known_contains_no_images() -> None:
    with pytest.raises(FormatError, match="contains no images of a band") as refused:
        read(zipped({"a.log": "made up", "b.log": "", ".hidden.in": AIMS}))
    assert refused.value.kind == "no-images"


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_folders_that_begin_at_01_are_asked_for_00(pack: Callable[[dict[str, str]], bytes]) -> None:
    reading = read(pack(folders(["01", "02", "03"])))
    assert len(reading.band.image_frac_coords) == 3
    assert "neb.zip has images 01 to 03 and no 00: is the first end point missing?" in " ".join(reading.warnings)


@pytest.mark.parametrize("numbers", [["00", "01", "02"], ["1", "2", "3"], ["image_1", "image_2"], ["initial", "01"]])
def test_other_numberings_are_not_asked_for_00(numbers: list[str]) -> None:
    assert "end point" not in " ".join(read(zipped(folders(numbers))).warnings)


@pytest.mark.parametrize(
    ("numbers", "asked"),
    [
        (["00", "01", "02", "03"], "and there are 4: is 04, the last end point, missing?"),
        (["01", "02", "03", "04"], "and there are 4: is 00, the first end point, missing?"),
        (["01", "02", "03"], "and there are 3: is 00, the first end point, and 04, the last end point, missing?"),
        (["00", "01", "02", "03", "04", "05"], "and there are 6: is each of them an image of this run?"),
    ],
)
def test_another_number_of_folders_than_the_incar_makes_is_asked_about(numbers: list[str], asked: str) -> None:
    reading = read(zipped(folders(numbers, "ENCUT = 500 ; images=3 ! climbing\n")))
    assert f"IMAGES = 3, so the folders of the band are 00 to 04, {asked}" in " ".join(reading.warnings)
    assert len(reading.band.image_frac_coords) == len(numbers)


@pytest.mark.parametrize(
    ("numbers", "incar"),
    [
        (["00", "01", "02", "03", "04"], "IMAGES = 3"),
        (["01", "02", "03", "04", "05"], "IMAGES = 3"),
        (["00", "01", "02"], "! IMAGES = 3\n#IMAGES = 3\nENCUT = 500"),
        (["00", "01", "02"], "IMAGES = 3" + " " * 2_000_000),
    ],
)
def test_as_many_folders_as_the_incar_makes_or_no_number_there_are_not_asked_about(
    numbers: list[str], incar: str
) -> None:
    assert "end point" not in " ".join(read(zipped(folders(numbers, incar))).warnings)


def test_backslashes_in_a_zip_are_slashes() -> None:
    names = {name.replace("/", "\\"): text for name, text in folders(["00", "01", "02"]).items()}
    reading = read(zipped({"neb\\": "", "neb\\00\\": "", **names}))
    assert len(reading.band.image_frac_coords) == 3
    assert reading.warnings == ()


@pytest.mark.parametrize("prefix", ["..\\", "..\\..\\", "neb\\..\\..\\", "__MACOSX\\", ".git\\"])
def test_what_is_hidden_or_outside_is_so_with_backslashes_too(prefix: str) -> None:
    names = {f"{prefix}{name}".replace("/", "\\"): text for name, text in folders(["00", "01", "02"]).items()}
    with pytest.raises(FormatError) as refused:
        read(zipped(names))
    assert refused.value.kind == "no-images"
