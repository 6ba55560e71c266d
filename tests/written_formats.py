"""One crystal and one band written in every format, by ASE, by pymatgen or by hand as each program writes it."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write
from ase.io.trajectory import TrajectoryWriter
from composed import composed_bands
from made_crystals import layered_oxide
from pymatgen.analysis.diffusion.neb.full_path_mapper import MigrationGraph
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from app.crystals.band import Band
from app.crystals.crystal import Crystal
from app.crystals.readers.neb_x import BOHR_ANGSTROM, HARTREE_EV
from app.crystals.readers.reading import Cell
from app.crystals.writers import band_to_extxyz, band_to_json, band_to_poscars
from app.serving.history.exports import to_neb_json

ION = "Li"
#: Of the band's images, where a format has energies: a barrier of 0.5 eV forward and 0.45 eV back.
ENERGIES_EV = (-100.0, -99.8, -99.5, -99.75, -99.95)
FORWARD_EV, BACK_EV = 0.5, 0.45


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


def rattled(count: int = 10, *, angstrom: float = 0.12, strain: float = 0.0) -> tuple[Structure, ...]:
    """Of the band's first image, frames as of molecular dynamics; with a strain a frame, of a cell that relaxes."""
    chance = np.random.default_rng(0)
    start = structures()[0]
    return tuple(
        Structure(
            Lattice(start.lattice.matrix * (1 + strain * number)),
            start.species,
            (start.cart_coords + chance.normal(0, angstrom, (len(start), 3))) * (1 + strain * number),
            coords_are_cartesian=True,
        )
        for number in range(count)
    )


def cell_of(one: Structure) -> Cell:
    a, b, c = ((float(x), float(y), float(z)) for x, y, z in one.lattice.matrix)
    return a, b, c


def atoms_of(one: Structure, energy_ev: float | None = None) -> Atoms:
    atoms = Atoms([str(site.specie) for site in one], positions=one.cart_coords, cell=one.lattice.matrix, pbc=True)
    if energy_ev is not None:
        atoms.calc = SinglePointCalculator(atoms, energy=energy_ev, forces=np.zeros((len(atoms), 3)))  # type: ignore[no-untyped-call, unused-ignore]
    return atoms


def all_atoms(images: Sequence[Structure]) -> list[Atoms]:
    return [atoms_of(one, energy) for one, energy in zip_longest(images, ENERGIES_EV[: len(images)])]


def poscar(one: Structure) -> bytes:
    return str(Poscar(one)).encode()


def vasp_4(one: Structure) -> bytes:
    lines = poscar(one).decode().splitlines()
    return "\n".join([lines[5], *lines[1:5], *lines[6:]]).encode()


def rest_reply(some: Sequence[Structure]) -> bytes:
    """A reply of Materials Project's REST interface, as it comes."""
    data = [{"material_id": f"mp-{k}", "structure": one.as_dict()} for k, one in enumerate(some)]
    return json.dumps({"data": data, "meta": {"total_doc": len(data)}}).encode()


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
        for atoms in all_atoms(images):
            atoms.set_constraint(FixAtoms([0]))  # type: ignore[no-untyped-call, unused-ignore]
            trajectory.write(atoms)
        return written.getvalue()


def ase_written(images: tuple[Structure, ...], form: str) -> bytes:
    text = io.StringIO()
    write(text, all_atoms(images), format=form)
    return text.getvalue().encode()


def ase_file(images: tuple[Structure, ...], folder: Path, ending: str) -> bytes:
    path = folder / f"images.{ending}"
    write(path, all_atoms(images))
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


# --- runs of VASP, written by hand as VASP has them ---


def vasprun(images: Sequence[Structure], energies_ev: Sequence[float] = ENERGIES_EV, *, whole: bool = True) -> bytes:
    atoms = "".join(f"<rc><c>{site.specie} </c><c>   1</c></rc>" for site in images[0])
    steps = "".join(
        f"<calculation><scstep><energy><i name='e_fr_energy'>{energy + 0.2}</i><i name='e_wo_entrp'>0.0</i>"
        f"<i name='e_0_energy'>{energy + 0.1}</i></energy></scstep>"
        f"<structure>{_xml_structure(image)}</structure>"
        f"<varray name='forces'>{'<v> 0.0 0.0 0.0 </v>' * len(image)}</varray>"
        f"<energy><i name='e_fr_energy'> {energy + 0.1} </i><i name='e_0_energy'> 999.0 </i></energy>"
        f"<eigenvalues><array><set><set><r>1.0 1.0</r></set></set></array></eigenvalues></calculation>\n"
        for image, energy in zip(images, energies_ev, strict=False)
    )
    text = (
        "<?xml version='1.0' encoding='ISO-8859-1'?>\n<modeling>\n <generator><i name='program'>vasp </i></generator>\n"
        f" <atominfo><atoms> {len(images[0])} </atoms><array name='atoms'><set>{atoms}</set></array></atominfo>\n"
        f" <structure name='initialpos'>{_xml_structure(images[0])}</structure>\n{steps}"
        f" <structure name='finalpos'>{_xml_structure(images[-1])}</structure>\n</modeling>\n"
    )
    return text.encode() if whole else text[: text.rindex("<calculation>") + 40].encode()


def _xml_structure(one: Structure) -> str:
    def rows(name: str, table: Any) -> str:
        return (
            f"<varray name='{name}'>"
            + "".join(f"<v> {x:.10f} {y:.10f} {z:.10f} </v>" for x, y, z in table)
            + "</varray>"
        )

    return f"<crystal>{rows('basis', one.lattice.matrix)}</crystal>{rows('positions', one.frac_coords)}"


def outcar(images: Sequence[Structure], energies_ev: Sequence[float] = ENERGIES_EV) -> bytes:
    """The atoms are listed by element, as VASP has them."""
    kinds = list(dict.fromkeys(str(site.specie) for site in images[0]))
    sites = [sorted(one, key=lambda site: kinds.index(str(site.specie))) for one in images]
    counts = [sum(str(site.specie) == kind for site in images[0]) for kind in kinds]
    lines = [" vasp.6.3.0 20Jan22 (build Jan 20 2022) complex", " executed on             LinuxIFC date 2026.11.22"]
    for kind in kinds:
        lines += [f"   VRHFIN ={kind}: made up", f"   TITEL  = PAW_PBE {kind}_sv 10Sep2004"]
    lines += ["   ions per type =            " + "".join(f"{count:4}" for count in counts)]
    lines += ["      direct lattice vectors                 reciprocal lattice vectors"]
    inverse = np.linalg.inv(images[0].lattice.matrix).T
    lines += [
        "  " + "".join(f"{value:13.9f}" for value in (*row, *other))
        for row, other in zip(images[0].lattice.matrix, inverse, strict=True)
    ]
    for image, energy in zip(sites, energies_ev, strict=False):
        lines += ["       energy without entropy =     -1.00000000  energy(sigma->0) =     -1.00000000"]
        lines += [" POSITION                                       TOTAL-FORCE (eV/Angst)", " " + 83 * "-"]
        lines += ["".join(f"{value:13.5f}" for value in (*site.coords, 0, 0, 0)) for site in image]
        lines += [" " + 83 * "-", "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)"]
        lines += [f"  energy  without entropy=   {energy + 0.1:16.8f}  energy(sigma->0) = {energy:16.8f}"]
    return "\n".join(lines).encode()


def vtst(*, outcars: bool = True, poscars: bool = True) -> dict[str, bytes]:
    """A finished run of VTST's scripts: each image with its CONTCAR, POSCAR and OUTCAR, and files beside them."""
    files: dict[str, bytes] = {"INCAR": b"IMAGES = 3", "KPOINTS": b"", "spline.dat": b"0 0 0"}
    for number, (image, energy) in enumerate(zip(structures(), ENERGIES_EV, strict=True)):
        folder = f"run/{number:02d}"
        if outcars:
            files[f"{folder}/OUTCAR"] = outcar((image, image), (energy + 1.0, energy))
        if poscars:
            files |= {f"{folder}/POSCAR": poscar(image), f"{folder}/CONTCAR": poscar(image)}
    return files


def chgcar(one: Structure) -> bytes:
    values = "\n".join(" ".join(["0.12345678901E+02"] * 5) for _ in range(8))
    return poscar(one) + f"\n   4    4    2\n{values}\naugmentation occupancies   1  15\n{values}\n".encode()


# --- neb.x and CP2K ---


def crd(images: Sequence[Structure]) -> bytes:
    lines = []
    for number, image in enumerate(images):
        lines.append("FIRST_IMAGE" if not number else "LAST_IMAGE" if image is images[-1] else "INTERMEDIATE_IMAGE")
        lines.append("ATOMIC_POSITIONS (bohr)")
        lines += [
            f" {site.specie!s:4}" + "".join(f"{value:18.10f}" for value in site.coords / BOHR_ANGSTROM)
            for site in image
        ]
    return "\n".join(lines).encode()


def path(images: Sequence[Structure]) -> bytes:
    lines = ["RESTART INFORMATION", "       5", "      10", "       0", "NUMBER OF IMAGES", f"       {len(images)}"]
    lines += ["ENERGIES, POSITIONS AND GRADIENTS"]
    for number, (image, energy) in enumerate(zip(images, ENERGIES_EV, strict=False), 1):
        lines += [f"Image: {number:4}", f"    {energy / HARTREE_EV:.10f}"]
        lines += ["".join(f"{value:18.10f}" for value in (*site.coords / BOHR_ANGSTROM, 0, 0, 0)) for site in image]
    return "\n".join(lines).encode()


def plain_xyz(images: Sequence[Structure], energies_ev: Sequence[float] = ENERGIES_EV, *, cp2k: bool = True) -> bytes:
    lines = []
    for step, (image, energy) in enumerate(zip(images, energies_ev, strict=False)):
        comment = f" i = {step:8}, time = {step * 0.5:12.3f}, E = {energy / HARTREE_EV:20.10f}" if cp2k else "made up"
        lines += [f"{len(image):6}", comment]
        lines += [f" {site.specie!s:3}" + "".join(f"{value:20.10f}" for value in site.coords) for site in image]
    return "\n".join(lines).encode()


def replicas() -> dict[str, bytes]:
    """CP2K's band: a trajectory for each image, of which the last step is the result."""
    return {
        f"neb-pos-Replica_nr_{number}-1.xyz": plain_xyz((structures()[0], image), (0.0, energy))
        for number, (image, energy) in enumerate(zip(structures(), ENERGIES_EV, strict=True), 1)
    }


def migration_graph() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks spglib in a form that is to go
        return str(MigrationGraph.with_distance(structure(), ION, max_distance=3.0).to_json()).encode()


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


def siesta_xv(one: Structure) -> bytes:
    """As SIESTA writes it: lengths in bohr, velocities beside them."""
    rows = [("", row) for row in one.lattice.matrix]
    rows += [(f"  1{site.specie.Z:6}", site.coords) for site in one]
    lines = [
        head + "".join(f"{value / BOHR_ANGSTROM:18.9f}" for value in row) + "   " + f"{0:18.9f}" * 3
        for head, row in rows
    ]
    return "\n".join([*lines[:3], f"{len(one):12}", *lines[3:], ""]).encode()


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
    "ASE JSON": lambda folder: ase_file((structure(),), folder, "json"),
    "pymatgen JSON": lambda _: json.dumps(structure().as_dict()).encode(),
    "SIESTA XV": lambda _: siesta_xv(structure()),
    "CHGCAR": lambda _: chgcar(structure()),
    "vasprun.xml": lambda _: vasprun((structure(),)),
    "OUTCAR": lambda _: outcar((structure(),)),
    "ASE database": lambda folder: ase_file((structure(),), folder, "db"),
    "MigrationGraph": lambda _: migration_graph(),
    "zip of a CIF": lambda _: zipped({"paper/LiCoO2.cif": str(CifWriter(structure())).encode(), "readme.txt": b"x"}),
    "zip of a run": lambda _: zipped(
        {"POSCAR": poscar(structure()), "OUTCAR": outcar((structure(),)), "vasprun.xml": vasprun((structure(),))}
    ),
    "entry": lambda _: json.dumps(ComputedStructureEntry(structure(), -1.0).as_dict()).encode(),
    "list of one": lambda _: json.dumps([structure().as_dict()]).encode(),
    "OPTIMADE": lambda _: json.dumps({"data": optimade_entry(structure()), "meta": {}}).encode(),
    "REST reply": lambda _: rest_reply((structure(),)),
}
BANDS: dict[str, Callable[[Path], bytes]] = {
    "extended XYZ": lambda _: band_to_extxyz(band()).encode(),
    "extended XYZ by ASE": lambda _: ase_written(structures(), "extxyz"),
    "extended XYZ in gzip": lambda _: gzip.compress(band_to_extxyz(band()).encode()),
    "JSON": lambda _: orjson.dumps(band_to_json(band())),
    "neb-json": lambda _: neb_json(),
    "ASE JSON": lambda folder: ase_file(structures(), folder, "json"),
    "ASE trajectory": lambda _: traj(structures()),
    "AXSF by ASE": lambda _: ase_written(structures(), "xsf"),
    "AXSF by Quantum ESPRESSO": lambda _: axsf(structures()),
    "ASE trajectory in a zip": lambda _: zipped({"band.traj": traj(structures())}),
    "XDATCAR": lambda _: xdatcar(structures()),
    "XDATCAR with a cell each": lambda _: xdatcar(structures(), each=True),
    "POSCARs": lambda _: b"".join(text.encode() + b"\n" for text in band_to_poscars(band())),
    "list of structures": lambda _: json.dumps([one.as_dict() for one in structures()]).encode(),
    "OPTIMADE": lambda _: json.dumps({"data": [optimade_entry(one) for one in structures()]}).encode(),
    "REST reply": lambda _: rest_reply(structures()),
    "zip": lambda _: zipped(folders()),
    "zip of gzip": lambda _: zipped(folders(packed=gzip.compress, ending=".gz")),
    "zip of xz": lambda _: zipped(folders(packed=lzma.compress, ending=".xz")),
    "zip of image_0": lambda _: zipped(folders("image_{}")),
    "zip of initial and final": lambda _: zipped(ends()),
    "zip of initial, 01 and final": lambda _: zipped(ends() | {"02/POSCAR": folders()["run/02/POSCAR"]}),
    "zip of initial.vasp": lambda _: zipped({f"{key.split('/')[0]}.vasp": value for key, value in ends().items()}),
    "ASE database": lambda folder: ase_file(structures(), folder, "db"),
    "list of entries": lambda _: json.dumps(
        [ComputedStructureEntry(*one).as_dict() for one in zip(structures(), ENERGIES_EV, strict=True)]
    ).encode(),
    "vasprun.xml": lambda _: vasprun(structures()),
    "OUTCAR": lambda _: outcar(structures()),
    "zip of VTST": lambda _: zipped(vtst()),
    "zip of OUTCARs": lambda _: zipped(vtst(poscars=False)),
    "zip of vasprun.xml": lambda _: zipped(
        {f"{k:02d}/vasprun.xml": vasprun((one,), (ENERGIES_EV[k],)) for k, one in enumerate(structures())}
    ),
    "zip of neb.x": lambda _: zipped(
        {
            "LiFePO4.axsf": axsf(structures()),
            "LiFePO4.crd": crd(structures()),
            "LiFePO4.path": path(structures()),
            "LiFePO4.xyz": plain_xyz(structures(), cp2k=False),
        }
    ),
    "zip of SIESTA": lambda _: zipped({f"{k}/x.XV": siesta_xv(one) for k, one in enumerate(structures())}),
    "tar": lambda _: tarred(folders()),
    "tar.gz": lambda _: gzip.compress(tarred(folders())),
    "tar.xz": lambda _: lzma.compress(tarred(folders())),
}

#: Formats that have no cell: it is sent beside them.
BANDS_WITHOUT_CELL: dict[str, Callable[[Path], bytes]] = {
    "plain XYZ": lambda _: plain_xyz(structures(), cp2k=False),
    "XYZ of CP2K": lambda _: plain_xyz(structures()),
    "zip of CP2K": lambda _: zipped(replicas()),
    "crd of neb.x": lambda _: crd(structures()),
    "zip of crd and path": lambda _: zipped({"x.crd": crd(structures()), "x.path": path(structures())}),
}
#: Formats with the energies of the images.
WITH_ENERGIES = (
    *(
        "extended XYZ by ASE",
        "ASE JSON",
        "ASE trajectory",
        "ASE trajectory in a zip",
        "ASE database",
        "list of entries",
    ),
    *("vasprun.xml", "OUTCAR", "zip of VTST", "zip of OUTCARs", "zip of vasprun.xml", "zip of neb.x"),
)
