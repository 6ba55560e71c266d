"""Which files named on the command line are crystals, and which are bands."""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure
from written_formats import ase_written, poscar, rattled, structures, traj, xdatcar

from app.console.sources import Source, inputs_of
from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file
from app.crystals.readers.vasp_output import outcar_energy_ev
from app.errors import InputError

FILES = {
    "a.cif": (b"data_a", "structure"),
    "a.cif.gz": (b"\x1f\x8b", "structure"),
    "CONTCAR.xz": (b"\xfd7zXZ", "structure"),
    "structure.json": (b'{"lattice": {}, "sites": []}', "structure"),
    "entry.json": (b'{"structure": {"lattice": {}, "sites": []}}', "structure"),
    "optimade.json": (b'{"data": {"attributes": {"cartesian_site_positions": []}}}', "structure"),
    "band.json": (b'{"lattice_angstrom": []}', "band"),
    "list.json": (b'[{"lattice": {}, "sites": []}]', "band"),
    "rows.json": (b'{"1": {}, "ids": [1], "nextid": 2}', "band"),
    "CHGCAR": (b"", "structure"),
    "vasprun.xml": (b"<modeling>", "structure"),
    "OUTCAR.gz": (b"\x1f\x8b", "structure"),
    "band.traj": (b"- of Ulm", "band"),
    "XDATCAR": (b"", "band"),
    "neb.tar.gz": (b"\x1f\x8b", "band"),
    "band.xyz.gz": (b"\x1f\x8b", "band"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_goes_where_it_belongs(name: str, tmp_path: Path) -> None:
    content, field = FILES[name]
    (tmp_path / name).write_bytes(content)
    (named,) = inputs_of([tmp_path / name], ion="Li", initial=None, final=None)
    source = named.read()
    assert isinstance(source, Source)
    assert source.files == {field: (name, content)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("md.traj", lambda: traj(rattled())),
        ("relax.extxyz", lambda: ase_written(rattled(4, angstrom=0.05, strain=0.01), "extxyz")),
        ("relax.xyz.gz", lambda: gzip.compress(ase_written(rattled(4, angstrom=0.05), "extxyz"))),
        ("XDATCAR", lambda: xdatcar(rattled())),
    ],
)
def test_a_trajectory_is_a_crystal_where_an_ion_is_named(
    name: str, content: Callable[[], bytes], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content())
    for ion, field in (("Li", "structure"), (None, "band")):
        (named,) = inputs_of([tmp_path / name], ion=ion, initial=None, final=None)
        source = named.read()
        assert isinstance(source, Source)
        assert list(source.files) == [field]


@pytest.mark.parametrize(("name", "content"), [("neb.traj", traj), ("XDATCAR", xdatcar)])
@pytest.mark.parametrize("cell", [None, "10,10,10", "no cell"])
def test_a_hop_is_a_band_where_an_ion_is_named_too(
    name: str, content: Callable[[tuple[Structure, ...]], bytes], cell: str | None, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content(structures()))
    (named,) = inputs_of([tmp_path / name], ion="Na", initial=None, final=None, cell=cell)
    source = named.read()
    assert isinstance(source, Source)
    assert list(source.files) == ["band"]


def test_packed_images_of_a_folder_are_sent(tmp_path: Path) -> None:
    for number in ("00", "01"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "POSCAR.gz").write_bytes(gzip.compress(b"made up"))
        (tmp_path / number / "OUTCAR.gz").write_bytes(gzip.compress(b"made up"))
    for name in ("INCAR", "WAVECAR", "POTCAR"):
        (tmp_path / name).write_bytes(b"made up")
    (named,) = inputs_of([tmp_path], ion=None, initial=None, final=None)
    source = named.read()
    assert isinstance(source, Source)
    with zipfile.ZipFile(io.BytesIO(source.files["band"][1])) as archive:
        assert archive.namelist() == ["00/POSCAR.gz", "01/POSCAR.gz", "INCAR"]


def test_a_run_is_a_band_where_no_ion_is_named(tmp_path: Path) -> None:
    (tmp_path / "vasprun.xml").write_bytes(b"<modeling>")
    (named,) = inputs_of([tmp_path / "vasprun.xml"], ion=None, initial=None, final=None)
    source = named.read()
    assert isinstance(source, Source)
    assert list(source.files) == ["band"]


def test_of_an_outcar_in_a_folder_the_energies_alone_are_sent(tmp_path: Path) -> None:
    energy = b"  energy  without entropy=  -1.0  energy(sigma->0) = -1.0\n"
    text = b" vasp.6.3.0 20Jan22\n" + b" a line of a matrix\n" * 1000 + energy
    (tmp_path / "00").mkdir()
    (tmp_path / "00" / "POSCAR").write_bytes(b"made up")
    (tmp_path / "00" / "OUTCAR").write_bytes(text)
    (named,) = inputs_of([tmp_path], ion=None, initial=None, final=None)
    source = named.read()
    assert isinstance(source, Source)
    with zipfile.ZipFile(io.BytesIO(source.files["band"][1])) as archive:
        assert archive.namelist() == ["00/OUTCAR", "00/POSCAR"]
        sent = archive.read("00/OUTCAR")
    assert sent.splitlines() == [text.splitlines()[0], text.splitlines()[-1]]
    assert outcar_energy_ev(sent.decode()) == -1.0


def test_an_error_names_a_folder_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed = Path("my") / "crystals"
    typed.mkdir(parents=True)
    for number, one in enumerate((structures()[0], Structure(Lattice.cubic(4), ["Li", "F"], [[0, 0, 0], [0.5] * 3]))):
        (typed / f"{number:02d}.vasp").write_bytes(poscar(one))
    (named,) = inputs_of([typed], ion="Li", initial=None, final=None)
    source = named.read()
    assert isinstance(source, Source)
    name, content = source.files["band"]
    with pytest.raises(InputError) as refused:
        read_band_file(File(name=name, content=content), Limits())
    assert (refused.value.kind, source.folder) == ("different-atoms", typed)
    assert str(refused.value.where) == "my/crystals: 01.vasp"
    assert "crystals.zip" not in refused.value.detail
