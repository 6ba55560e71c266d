"""One crystal and one band in every format give one barrier; a limit holds in each; nothing is unpickled."""

import bz2
import gzip
import io
import lzma
import pickle
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
from cifs import cif
from pymatgen.core import Structure
from written_formats import (
    BANDS,
    BANDS_WITHOUT_CELL,
    CRYSTALS,
    ENERGIES_EV,
    ION,
    WITH_ENERGIES,
    ase_written,
    band,
    cell_of,
    crystal,
    neb_json,
    plain_xyz,
    rattled,
    structure,
    structures,
    tarred,
    traj,
    xdatcar,
    zipped,
)

from app.crystals.band import Band
from app.crystals.limits import Limits
from app.crystals.readers import File, holds_trajectory, read_band_file, read_crystal
from app.errors import FormatError, InputError, TooLargeError
from app.models.predictors.predictor import Predictor
from app.models.registry import Registry
from benchmarks.rewritten_cifs import percolation_barrier_ev

SAME_EV = 5e-3
LIMITS = Limits()
#: Of several configurations in one file, those of which one is read as the crystal.
FIRST_READ = ("XDATCAR", "XDATCAR with a cell each", "POSCARs")
LAST_READ = ("vasprun.xml", "OUTCAR")


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


@pytest.mark.parametrize("form", BANDS_WITHOUT_CELL)
def test_a_file_without_a_cell_is_read_with_the_one_sent_beside_it(
    form: str, tmp_path: Path, predictor: Predictor
) -> None:
    content = BANDS_WITHOUT_CELL[form](tmp_path)
    read = read_band_file(File(name="upload", content=content, cell_angstrom=cell_of(structures()[0])), LIMITS)
    assert read.band.formula == band().formula
    assert band_barrier_ev(read.band, predictor) == pytest.approx(band_barrier_ev(band(), predictor), abs=SAME_EV)
    assert read.energies_ev == (pytest.approx(ENERGIES_EV) if "CP2K" in form or "path" in form else ())
    with pytest.raises(FormatError) as refused:
        read_band_file(File(name="upload", content=content), LIMITS)
    assert refused.value.kind == "no-lattice"
    assert "form field `cell`" in str(refused.value.expected)


def test_a_crystal_without_a_cell_is_read_with_the_one_sent_beside_it(
    predictor: Predictor, crystal_barrier_ev: float
) -> None:
    content = plain_xyz((structure(),), cp2k=False)
    read = read_crystal(File(name="one.xyz", content=content, cell_angstrom=cell_of(structure())), LIMITS, ION)
    assert percolation_barrier_ev(read, ION, predictor) == pytest.approx(crystal_barrier_ev, abs=SAME_EV)


@pytest.mark.parametrize("form", ["POSCARs", "extended XYZ", "zip", "ASE trajectory"])
def test_a_cell_beside_a_file_that_has_its_own_is_not_used_and_a_warning_says_so(form: str, tmp_path: Path) -> None:
    other = ((20.0, 0.0, 0.0), (0.0, 20.0, 0.0), (0.0, 0.0, 20.0))
    read = read_band_file(File(name="upload", content=BANDS[form](tmp_path), cell_angstrom=other), LIMITS)
    assert np.allclose(read.band.lattice_angstrom, band().lattice_angstrom, atol=1e-4)
    assert sum("was not used" in warning for warning in read.warnings) == 1


@pytest.mark.parametrize("form", BANDS)
def test_the_energies_of_the_images_are_read_where_the_format_has_them(form: str, tmp_path: Path) -> None:
    read = read_band_file(File(name="upload", content=BANDS[form](tmp_path)), LIMITS)
    assert read.energies_ev == (pytest.approx(ENERGIES_EV) if form in WITH_ENERGIES else ())


@pytest.mark.parametrize("form", sorted(set(BANDS) - {*FIRST_READ, *LAST_READ}))
def test_a_band_sent_as_a_crystal_says_what_it_is(form: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"a zip|a tar|of 5 frames|list of 5 structures|JSON band") as refused:
        read_crystal(File(name="upload", content=BANDS[form](tmp_path)), LIMITS, ION)
    assert refused.value.kind == "band-not-crystal"


@pytest.mark.parametrize("form", LAST_READ)
def test_of_a_run_the_last_step_is_the_crystal_and_a_warning_says_so(form: str, tmp_path: Path) -> None:
    read = read_crystal(File(name="upload", content=BANDS[form](tmp_path)), LIMITS, ION)
    assert any("of 5 ionic steps, and the last was read" in warning for warning in read.warnings)
    end = structures()[-1].frac_coords[-1]
    away = np.array([site.frac_coords for site in read.sites]) - end
    assert np.abs(away - np.rint(away)).max(axis=1).min() < 1e-5


@pytest.mark.parametrize("form", FIRST_READ)
def test_of_several_configurations_the_first_is_the_crystal_and_a_warning_says_so(form: str, tmp_path: Path) -> None:
    read = read_crystal(File(name="upload", content=BANDS[form](tmp_path)), LIMITS, ION)
    assert any("of 5 configurations, and the first was read" in warning for warning in read.warnings)


TRAJECTORIES: dict[str, Callable[[tuple[Structure, ...]], bytes]] = {
    "ASE trajectory": traj,
    "extended XYZ": lambda frames: ase_written(frames, "extxyz"),
    "ASE trajectory in a zip": lambda frames: zipped({"relax.traj": traj(frames)}),
}


@pytest.mark.parametrize("frames", ["of dynamics", "of a relaxation", "of a cell that relaxes", "more than images"])
@pytest.mark.parametrize("form", TRAJECTORIES)
def test_of_a_trajectory_the_last_frame_is_the_crystal_and_a_warning_says_so(form: str, frames: str) -> None:
    frames_of: dict[str, Callable[[], tuple[Structure, ...]]] = {
        "of dynamics": rattled,
        "of a relaxation": lambda: rattled(2, angstrom=0.05),
        "of a cell that relaxes": lambda: rattled(5, angstrom=0.03, strain=0.01),
        "more than images": lambda: rattled(LIMITS.max_images + 1, angstrom=0.05),
    }
    made = frames_of[frames]()
    file = File(name="upload", content=TRAJECTORIES[form](made))
    assert holds_trajectory(file, LIMITS)
    read = read_crystal(file, LIMITS, ION)
    (warning,) = (warning for warning in read.warnings if "frames" in warning)
    assert f"of {len(made)} frames that show no hop, and the last was read" in warning
    assert "`band`" in warning
    assert np.allclose(read.lattice_angstrom, made[-1].lattice.matrix, atol=1e-5)
    assert np.allclose([site.frac_coords for site in read.sites], made[-1].frac_coords, atol=1e-5)


@pytest.mark.parametrize("angstrom", [0.08, 0.12, 0.2])
@pytest.mark.parametrize("form", TRAJECTORIES)
def test_a_trajectory_sent_as_a_band_is_no_hop_of_what_moved_most(form: str, angstrom: float) -> None:
    file = File(name="upload", content=TRAJECTORIES[form](rattled(angstrom=angstrom)))
    with pytest.raises(InputError, match="as in a relaxation or molecular dynamics") as refused:
        read_band_file(file, LIMITS)
    assert refused.value.kind == "nothing-moves"


def test_a_short_hop_in_a_host_that_hardly_moves_is_a_band() -> None:
    images, chance = structures(), np.random.default_rng(0)
    shift = np.zeros((len(images[0]), 3))
    shift[-1] = [0.6, 0.0, 0.0]
    ends = tuple(
        Structure(
            one.lattice, one.species, one.cart_coords + chance.normal(0, 0.03, shift.shape), coords_are_cartesian=True
        )
        for one in (
            images[0],
            Structure(images[0].lattice, images[0].species, images[0].cart_coords + shift, coords_are_cartesian=True),
        )
    )
    assert read_band_file(File(name="upload", content=traj(ends)), LIMITS).band.ion == ION


@pytest.mark.parametrize("frames", ["shuffled", "relaxed", "to a copy", "many", "other crystals"])
@pytest.mark.parametrize("form", TRAJECTORIES)
def test_frames_of_a_hop_or_of_other_crystals_are_no_trajectory(form: str, frames: str) -> None:
    images, chance = structures(), np.random.default_rng(0)
    ion = len(images[0]) - 1

    def moved(image: Structure, shift: np.ndarray) -> Structure:
        return Structure(image.lattice, image.species, image.cart_coords + shift, coords_are_cartesian=True)

    def along(fraction: float) -> Structure:
        shift = np.zeros((ion + 1, 3))
        shift[ion] = fraction * images[0].lattice.matrix[1]
        return moved(images[0], shift)

    frames_of: dict[str, Callable[[], tuple[Structure, ...]]] = {
        "shuffled": lambda: (images[0], *(one.copy().get_sorted_structure() for one in images[1:])),
        "relaxed": lambda: tuple(moved(one, chance.normal(0, 0.05, (ion + 1, 3))) for one in images),
        "to a copy": lambda: tuple(along(fraction) for fraction in np.linspace(0, 1, 9)),
        "many": lambda: images * (LIMITS.max_images // len(images) + 1),
        "other crystals": lambda: (images[0], structure()),
    }
    made = frames_of[frames]()
    file = File(name="upload", content=TRAJECTORIES[form](made))
    assert not holds_trajectory(file, LIMITS)
    with pytest.raises(FormatError, match=f"of {len(made)} frames, and one crystal belongs here") as refused:
        read_crystal(file, LIMITS, ION)
    assert refused.value.kind == "band-not-crystal"


@pytest.mark.parametrize("form", BANDS)
def test_no_band_is_taken_for_a_trajectory(form: str, tmp_path: Path) -> None:
    assert not holds_trajectory(File(name="upload", content=BANDS[form](tmp_path)), LIMITS)


@pytest.mark.parametrize("count", [2, 10, 200])
def test_an_xdatcar_of_dynamics_is_a_trajectory(count: int) -> None:
    assert holds_trajectory(File(name="XDATCAR", content=xdatcar(rattled(count))), LIMITS)


@pytest.mark.parametrize("form", CRYSTALS)
def test_one_crystal_is_a_trajectory_of_none(form: str, tmp_path: Path) -> None:
    assert not holds_trajectory(File(name="upload", content=CRYSTALS[form](tmp_path)), LIMITS)


@pytest.mark.parametrize("form", CRYSTALS)
def test_a_crystal_sent_as_a_band_says_what_it_is(form: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is a single crystal") as refused:
        read_band_file(File(name="upload", content=CRYSTALS[form](tmp_path)), LIMITS)
    assert refused.value.kind == "single-crystal"


def test_a_cif_of_several_structures_sent_as_a_band_says_so() -> None:
    one = cif(cell=(8.0,), atoms=("Li1 Li 0 0 0 1", "O1 O 0.5 0.5 0.5 1"), symbol="P 1")
    assert one.count("data_") == 1
    texts = [re.sub(r"data_\S*", f"data_image{k}", one) for k in range(3)]
    with pytest.raises(FormatError, match="is a CIF of 3 structures, image0, image1, image2") as refused:
        read_band_file(File(name="band.cif", content="\n".join(texts).encode()), LIMITS)
    assert refused.value.kind == "single-crystal"  # by which it is sent as a crystal
    assert "a zip with a CIF for each image" in str(refused.value.expected)


@pytest.mark.parametrize("data", [[], [{"material_id": "mp-1"}], [1], {"structure": {}}, "text"])
def test_a_reply_without_structures_is_no_crystal(data: object) -> None:
    with pytest.raises(FormatError) as refused:
        read_crystal(File(name="reply.json", content=orjson.dumps({"data": data, "meta": {}})), LIMITS)
    assert refused.value.kind == "not-a-crystal"


def test_a_fault_in_a_reply_is_named_with_its_place() -> None:
    record = orjson.loads(CRYSTALS["REST reply"](Path()))
    record["data"][0]["structure"]["sites"][2]["species"] = []
    with pytest.raises(FormatError) as refused:
        read_crystal(File(name="reply.json", content=orjson.dumps(record)), LIMITS)
    assert refused.value.where == "reply.json, data[0], sites[2]"


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


XV = (
    b"  7.558904 0 0   0 0 0\n  0 7.558904 0   0 0 0\n  0 0 7.558904   0 0 0\n  2\n"
    b"  1 3 0.0 0.0 0.0 0 0 0\n  2 8 3.779452 3.779452 3.779452 0 0 0\n"
)


def test_an_xv_of_siesta_has_lengths_in_bohr() -> None:
    read = read_crystal(File(name="siesta.XV", content=XV), LIMITS)
    assert read.formula == "Li1 O1"
    assert np.allclose(read.lattice_angstrom, 4.0 * np.eye(3), atol=1e-5)
    assert read.sites[1].frac_coords == pytest.approx((0.5, 0.5, 0.5), abs=1e-6)


@pytest.mark.parametrize(
    ("changed", "into", "says", "where"),
    [
        (b"  2 8 3.779452", b"  2 8 x", "Expected three numbers in line 6, not 'x 3.779452 3.779452'", "line 6"),
        (b"\n  2\n", b"\n  3\n", "Expected three numbers in line 7, not ''", "line 7"),
        (b"\n  2\n", b"\n  0\n", "Expected the number of atoms in line 4, not '0'", "line 4"),
        (b"  2 8 ", b"  2 -8 ", "Line 6 has '-8' as an atomic number", "line 6"),
        (b"  2 8 ", b"  2 208 ", "Line 6 has '208' as an atomic number", "line 6"),
    ],
)
def test_a_damaged_xv_names_the_line(changed: bytes, into: bytes, says: str, where: str) -> None:
    assert changed in XV
    with pytest.raises(FormatError, match=re.escape(says)) as refused:
        read_crystal(File(name="siesta.XV", content=XV.replace(changed, into)), LIMITS)
    assert (refused.value.kind, refused.value.where) == ("unreadable-xv", f"siesta.XV, {where}")
