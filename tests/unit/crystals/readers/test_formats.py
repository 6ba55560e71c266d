"""One crystal and one band in every format give one barrier; a limit holds in each; nothing is unpickled."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write
from ase.io.trajectory import TrajectoryWriter
from composed import composed_bands
from made_crystals import layered_oxide
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from app.crystals.band import Band
from app.crystals.crystal import Crystal
from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file, read_crystal
from app.crystals.writers import band_to_extxyz, band_to_json, band_to_poscars
from app.errors import FormatError, InputError, TooLargeError, UnsupportedError
from app.models.predictors.predictor import Predictor
from app.models.registry import Registry
from app.serving.history.exports import to_neb_json
from benchmarks.rewritten_cifs import percolation_barrier_ev

SAME_EV = 5e-3
LIMITS = Limits()
ION = "Li"


@cache
def crystal() -> Crystal:
    return layered_oxide()


@cache
def band() -> Band:
    return composed_bands()["LiFePO4 1"]


@cache
def structure() -> Structure:
    found = crystal()
    return Structure(
        Lattice(found.lattice_angstrom),
        [site.species[0][0] for site in found.sites],
        [site.frac_coords for site in found.sites],
    ).get_sorted_structure()


@cache
def structures() -> tuple[Structure, ...]:
    found = band()
    species = (*found.host_species, found.ion)
    return tuple(
        Structure(Lattice(found.lattice_angstrom), species, np.vstack([found.host_frac_coords, image]))
        for image in found.image_frac_coords
    )


def atoms_of(one: Structure) -> Atoms:
    return Atoms([str(site.specie) for site in one], positions=one.cart_coords, cell=one.lattice.matrix, pbc=True)


def poscar(one: Structure) -> bytes:
    return str(Poscar(one)).encode()


def vasp_4(one: Structure) -> bytes:
    lines = poscar(one).decode().splitlines()
    return "\n".join([lines[5], *lines[1:5], *lines[6:]]).encode()


def optimade_entry(one: Structure) -> dict[str, Any]:
    elements = sorted({str(site.specie) for site in one})
    return {
        "id": "made-up",
        "type": "structures",
        "attributes": {
            "lattice_vectors": one.lattice.matrix.tolist(),
            "cartesian_site_positions": one.cart_coords.tolist(),
            "species_at_sites": [str(site.specie) for site in one],
            "species": [{"name": name, "chemical_symbols": [name], "concentration": [1.0]} for name in elements],
            "nsites": len(one),
        },
    }


def traj(images: tuple[Structure, ...]) -> bytes:
    written = io.BytesIO()
    with TrajectoryWriter(written, "w") as trajectory:
        for image in images:
            atoms = atoms_of(image)
            atoms.set_constraint(FixAtoms([0]))  # type: ignore[no-untyped-call, unused-ignore]
            atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((len(atoms), 3)))  # type: ignore[no-untyped-call, unused-ignore]
            trajectory.write(atoms)
        return written.getvalue()


def ase_written(images: tuple[Structure, ...], form: str) -> bytes:
    text = io.StringIO()
    write(text, [atoms_of(image) for image in images], format=form)
    return text.getvalue().encode()


def ase_json(images: tuple[Structure, ...], folder: Path) -> bytes:
    path = folder / "images.json"
    write(path, [atoms_of(image) for image in images])
    return path.read_bytes()


def zipped(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def folders(name: str = "{:02d}", *, packed: Callable[[bytes], bytes] = bytes, ending: str = "") -> dict[str, bytes]:
    texts = band_to_poscars(band())
    return {f"run/{name.format(k)}/POSCAR{ending}": packed(text.encode()) for k, text in enumerate(texts)}


def neb_json() -> bytes:
    document = {
        "created_at": "2026-11-22T12:00:00+00:00",
        "prediction_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "barrier_ev": 0.5,
        "interval_ev": {"low": 0.4, "high": 0.6},
    }
    return to_neb_json(document, {1: band()})


CRYSTALS: dict[str, Callable[[Path], bytes]] = {
    "CIF": lambda _: str(CifWriter(structure())).encode(),
    "POSCAR": lambda _: poscar(structure()),
    "POSCAR of VASP 4": lambda _: vasp_4(structure()),
    "POSCAR with a bracket": lambda _: b"[made up] " + poscar(structure()),
    "POSCAR in gzip": lambda _: gzip.compress(poscar(structure())),
    "POSCAR in xz": lambda _: lzma.compress(poscar(structure())),
    "POSCAR in bzip2": lambda _: bz2.compress(poscar(structure())),
    "XDATCAR": lambda _: xdatcar((structure(),)),
    "extended XYZ": lambda _: ase_written((structure(),), "extxyz"),
    "ASE trajectory": lambda _: traj((structure(),)),
    "XSF": lambda _: ase_written((structure(),), "xsf"),
    "ASE JSON": lambda folder: ase_json((structure(),), folder),
    "pymatgen JSON": lambda _: json.dumps(structure().as_dict()).encode(),
    "entry": lambda _: json.dumps(ComputedStructureEntry(structure(), -1.0).as_dict()).encode(),
    "list of one": lambda _: json.dumps([structure().as_dict()]).encode(),
    "OPTIMADE": lambda _: json.dumps({"data": optimade_entry(structure()), "meta": {}}).encode(),
}
BANDS: dict[str, Callable[[Path], bytes]] = {
    "extended XYZ": lambda _: band_to_extxyz(band()).encode(),
    "extended XYZ by ASE": lambda _: ase_written(structures(), "extxyz"),
    "extended XYZ in gzip": lambda _: gzip.compress(band_to_extxyz(band()).encode()),
    "JSON": lambda _: orjson.dumps(band_to_json(band())),
    "neb-json": lambda _: neb_json(),
    "ASE JSON": lambda folder: ase_json(structures(), folder),
    "ASE trajectory": lambda _: traj(structures()),
    "AXSF by ASE": lambda _: ase_written(structures(), "xsf"),
    "AXSF by Quantum ESPRESSO": lambda _: axsf(structures()),
    "ASE trajectory in a zip": lambda _: zipped({"band.traj": traj(structures())}),
    "XDATCAR": lambda _: xdatcar(structures()),
    "XDATCAR with a cell each": lambda _: xdatcar(structures(), each=True),
    "POSCARs": lambda _: b"".join(text.encode() + b"\n" for text in band_to_poscars(band())),
    "list of structures": lambda _: json.dumps([one.as_dict() for one in structures()]).encode(),
    "OPTIMADE": lambda _: json.dumps({"data": [optimade_entry(one) for one in structures()]}).encode(),
    "zip": lambda _: zipped(folders()),
    "zip of gzip": lambda _: zipped(folders(packed=gzip.compress, ending=".gz")),
    "zip of xz": lambda _: zipped(folders(packed=lzma.compress, ending=".xz")),
    "zip of image_0": lambda _: zipped(folders("image_{}")),
    "zip of initial and final": lambda _: zipped(ends()),
    "zip of initial, 01 and final": lambda _: zipped(ends() | {"02/POSCAR": folders()["run/02/POSCAR"]}),
    "zip of initial.vasp": lambda _: zipped({f"{key.split('/')[0]}.vasp": value for key, value in ends().items()}),
    "tar": lambda _: tarred(folders()),
    "tar.gz": lambda _: gzip.compress(tarred(folders())),
    "tar.xz": lambda _: lzma.compress(tarred(folders())),
}


def ends() -> dict[str, bytes]:
    texts = list(folders().values())
    return {"final/CONTCAR": texts[-1], "initial/CONTCAR": texts[0]}


def xdatcar(images: tuple[Structure, ...], *, each: bool = False) -> bytes:
    """As VASP writes it, the head once or, where the cell may change, before each configuration."""
    lines: list[str] = []
    for number, image in enumerate(images, 1):
        text = poscar(image).decode().splitlines()
        if number == 1 or each:
            lines += text[:7]
        lines += [f"Direct configuration={number:6}", *(" ".join(row.split()[:3]) for row in text[8:] if row.strip())]
    return "\n".join(lines).encode()


def axsf(images: tuple[Structure, ...]) -> bytes:
    """As neb.x writes it: one cell for all, and forces beside the positions."""
    lines = [f" ANIMSTEPS {len(images)}", " CRYSTAL", " PRIMVEC"]
    lines += [" ".join(f"{value:14.10f}" for value in row) for row in images[0].lattice.matrix]
    for number, image in enumerate(images, 1):
        lines += [f" PRIMCOORD {number}", f" {len(image)} 1"]
        lines += [
            f"{site.specie} " + " ".join(f"{value:14.10f}" for value in (*site.coords, 0.0, 0.1, 0.0)) for site in image
        ]
    return "\n".join(lines).encode()


@pytest.fixture(scope="module")
def predictor(repository: Path) -> Predictor:
    return Registry.open(repository / "model_store", "cpu", default="default").predictor()


@pytest.fixture(scope="module")
def crystal_barrier_ev(predictor: Predictor) -> float:
    found = percolation_barrier_ev(crystal(), ION, predictor)
    assert found is not None
    return found


def band_barrier_ev(found: Band, predictor: Predictor) -> float:
    return predictor.predict([predictor.graph(found)])[0].barrier_ev


@pytest.mark.parametrize("form", CRYSTALS)
def test_a_crystal_has_one_barrier_in_every_format(
    form: str, tmp_path: Path, predictor: Predictor, crystal_barrier_ev: float
) -> None:
    read = read_crystal(File(name="upload", content=CRYSTALS[form](tmp_path)), LIMITS, ION)
    assert read.formula == crystal().formula
    found = percolation_barrier_ev(read, ION, predictor)
    assert found == pytest.approx(crystal_barrier_ev, abs=SAME_EV)
    assert all("taken from its title" in warning for warning in read.warnings)


@pytest.mark.parametrize("form", BANDS)
def test_a_band_has_one_barrier_in_every_format(form: str, tmp_path: Path, predictor: Predictor) -> None:
    read = read_band_file(File(name="upload", content=BANDS[form](tmp_path)), LIMITS)
    assert read.band.formula == band().formula
    assert np.linalg.norm(read.band.hop_vector_angstrom) == pytest.approx(band().hop_distance_angstrom, abs=1e-4)
    assert band_barrier_ev(read.band, predictor) == pytest.approx(band_barrier_ev(band(), predictor), abs=SAME_EV)


@pytest.mark.parametrize("form", sorted(set(BANDS) - {"XDATCAR", "XDATCAR with a cell each", "POSCARs"}))
def test_a_band_sent_as_a_crystal_says_what_it_is(form: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"a zip|a tar|of 5 frames|list of 5 structures|JSON band") as refused:
        read_crystal(File(name="upload", content=BANDS[form](tmp_path)), LIMITS, ION)
    assert refused.value.kind == "band-not-crystal"


@pytest.mark.parametrize("form", ["XDATCAR", "XDATCAR with a cell each", "POSCARs"])
def test_of_several_configurations_the_first_is_the_crystal_and_a_warning_says_so(form: str, tmp_path: Path) -> None:
    read = read_crystal(File(name="upload", content=BANDS[form](tmp_path)), LIMITS, ION)
    assert any("of 5 configurations, and the first was read" in warning for warning in read.warnings)


@pytest.mark.parametrize("form", sorted(set(CRYSTALS) - {"XDATCAR", "extended XYZ", "ASE trajectory", "XSF"}))
def test_a_crystal_sent_as_a_band_says_what_it_is(form: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is a single crystal") as refused:
        read_band_file(File(name="upload", content=CRYSTALS[form](tmp_path)), LIMITS)
    assert refused.value.kind == "single-crystal"


@pytest.mark.parametrize("form", ["XDATCAR", "extended XYZ", "ASE trajectory", "XSF"])
def test_a_trajectory_of_one_image_is_no_band(form: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read_band_file(File(name="upload", content=CRYSTALS[form](tmp_path)), LIMITS)
    assert refused.value.kind == "one-image"


def test_a_title_that_disagrees_with_the_counts_is_not_believed() -> None:
    lines = vasp_4(structure()).decode().splitlines()
    for title in ("LiCoO2 slab", "Li Co", "Li9 Co3 O6", "made up"):
        with pytest.raises(FormatError) as refused:
            read_crystal(File(name="POSCAR", content="\n".join([title, *lines[1:]]).encode()), LIMITS)
        assert refused.value.kind == "no-element-names"


def test_velocities_after_the_positions_are_no_second_crystal() -> None:
    velocities = "\n".join("  0.00000000E+00  0.10000000E-01  0.00000000E+00" for _ in structure())
    read = read_crystal(File(name="CONTCAR", content=poscar(structure()) + b"\n" + velocities.encode()), LIMITS)
    assert read.warnings == ()
    assert read.formula == crystal().formula


def test_bands_of_several_hops_in_neb_json_are_named() -> None:
    record = orjson.loads(neb_json())
    record["5"]["key_value_pairs"]["hop"] = 2
    with pytest.raises(FormatError, match="the bands of 2 hops: 1, 2") as refused:
        read_band_file(File(name="bands.json", content=orjson.dumps(record)), LIMITS)
    assert refused.value.kind == "several-bands"


# --- limits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", sorted(set(BANDS) - {"zip of initial and final", "zip of initial, 01 and final", "zip of initial.vasp"})
)
def test_the_limits_of_images_and_atoms_hold_in_every_format(form: str, tmp_path: Path) -> None:
    content = BANDS[form](tmp_path)
    for limits, kind in ((Limits(max_images=4), "too-many-images"), (Limits(max_atoms=20), "too-many-atoms")):
        with pytest.raises(TooLargeError) as refused:
            read_band_file(File(name="upload", content=content), limits)
        assert refused.value.kind == kind


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_a_decompression_bomb_is_stopped_alone_and_inside_an_archive(pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(bytes(30_000_000))
    limits = Limits(max_unpacked_bytes=1_000_000)
    for content in (bomb, zipped({"00/POSCAR.gz": bomb, "01/POSCAR.gz": bomb}), tarred({"00/POSCAR.gz": bomb})):
        with pytest.raises(TooLargeError) as refused:
            read_band_file(File(name="upload", content=content), limits)
        assert refused.value.kind == "too-many-unpacked-bytes"


def test_an_archive_of_too_many_files_is_refused() -> None:
    files = {f"{k}.txt": b"" for k in range(30)}
    for content in (zipped(files), tarred(files)):
        with pytest.raises(TooLargeError) as refused:
            read_band_file(File(name="upload", content=content), Limits(max_files=20))
        assert refused.value.kind == "too-many-files"


def test_a_link_in_a_tar_is_not_followed() -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name in ("00/POSCAR", "01/POSCAR"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    with pytest.raises(FormatError) as refused:
        read_band_file(File(name="links.tar", content=written.getvalue()), LIMITS)
    assert refused.value.kind == "no-images"


# --- nothing is unpickled, and what is not read is named ------------------------------------------------------


class Hostile:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("head", [b"", b"PickleTrajectory", b"- of UlmASE-Trajectory  "])
def test_a_pickle_is_never_loaded(head: bytes, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    hostile = head + pickle.dumps(Hostile(mark))
    for content in (hostile, gzip.compress(hostile), zipped({"band.traj": hostile})):
        for read in (read_band_file, read_crystal):
            with pytest.raises(InputError) as refused:
                read(File(name="band.traj", content=content), LIMITS)
            assert refused.value.kind in ("format-not-read", "unreadable-trajectory", "band-not-crystal")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Hostile(mark)))
    assert mark.exists()


def test_an_array_of_objects_in_a_trajectory_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    content = traj(structures()[:2])
    assert b'"float64"' in content
    changed = content.replace(b'"float64"', b'"O"      ') + pickle.dumps(Hostile(mark))
    with pytest.raises(FormatError) as refused:
        read_band_file(File(name="band.traj", content=changed), LIMITS)
    assert refused.value.kind == "unreadable-trajectory"
    assert not mark.exists()


OTHERS = {
    "dump.lammpstrj": (b"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\n", "a LAMMPS dump"),
    "run.cell": (b"%BLOCK LATTICE_CART\n5 0 0\n0 5 0\n0 0 5\n%ENDBLOCK LATTICE_CART\n", "a CASTEP cell file"),
    "geometry.in": (b"# made up\nlattice_vector 5 0 0\nlattice_vector 0 5 0\n", "an FHI-aims geometry.in"),
    "zeolite.cssr": (b" 24.55 24.55 24.55\n 90 90 90 SPGR = 1\n 1 0\n", "a CSSR file"),
    "paper.pdf": (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
    "1abc.cif": (b"data_1ABC\nloop_\n_atom_site.group_PDB\n_atom_site.Cartn_x\nATOM 1.0\n", "an mmCIF of a protein"),
    "vasprun.xml": (b'<?xml version="1.0"?>\n<modeling>\n', "a vasprun.xml"),
    "OUTCAR": (b" vasp.6.3.0 20Jan22\n executed on LinuxIFC\n", "an OUTCAR"),
    "pw.in": (b"&CONTROL\n calculation='scf'\n/\n", "a Quantum ESPRESSO input"),
    "materials.db": (b"SQLite format 3\x00rest", "an SQLite database"),
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
