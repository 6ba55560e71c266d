"""Real bands in every format give the same band; real CIFs give crystals."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from band_files import band_to_cif_end_points, band_to_poscar_zip
from pymatgen.core import Lattice, Structure

from app.crystals.band import Band, FloatArray
from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file, read_crystal, read_end_points, read_json_band
from app.crystals.writers import band_to_extxyz, band_to_json

LIMITS = Limits()
#: Host atoms, or an end point and a host atom, 0.01 angstrom apart in the data set itself.
OVERLAPPING_ROWS = {"Na4MnAlP3O12_1", "Na4MnAlP3O12_2", "Na4MnAlP3O12_3"}
#: A hexagonal, a triclinic, a long hop, one the longer way round, and others.
SOME_ROWS = ("LiCoO2", "Li7P3Se11", "MgxTi2P3O12_2", "Ca0.5VF3", "Na3SI", "RuO2_Li_1")
Row = dict[str, object]


def named(text: str | bytes, name: str) -> File:
    return File(name=name, content=text.encode() if isinstance(text, str) else text)


@pytest.fixture(scope="session")
def some_rows(data_rows: list[Row]) -> list[Row]:
    chosen = [row for row in data_rows[::40] if len(np.array(row["host_species"])) < 150]
    return chosen + [row for row in data_rows if row["id"] in SOME_ROWS]


def environment(band: Band) -> tuple[FloatArray, float]:
    """What does not depend on order, origin or orientation: distances from both ends to the host, and the hop's."""
    ends = band.image_frac_coords[[0, -1]]
    vectors = ends[:, None] - band.host_frac_coords[None]
    vectors -= np.rint(vectors)
    distances = np.linalg.norm(vectors @ band.lattice_angstrom, axis=2)
    return np.sort(distances, axis=1)[:, :12], band.hop_distance_angstrom


def assert_same(band: Band, other: Band) -> None:
    assert other.ion == band.ion
    assert sorted(other.host_species) == sorted(band.host_species)
    (distances, hop_angstrom), (other_distances, other_hop_angstrom) = environment(band), environment(other)
    np.testing.assert_allclose(other_distances, distances, atol=1e-3)
    assert other_hop_angstrom == pytest.approx(hop_angstrom, abs=1e-3)


def test_every_row_of_the_data_set_is_read_as_it_stands_but_the_overlapping_ones(data_rows: list[Row]) -> None:
    refused = set()
    for row in data_rows:
        if row["id"] in OVERLAPPING_ROWS:
            with pytest.raises(Exception, match="on top of") as caught:
                read_json_band(row, LIMITS)
            refused.add(row["id"])
            assert getattr(caught.value, "kind", None) == "atoms-overlap"
            continue
        reading = read_json_band(row, LIMITS)
        np.testing.assert_array_equal(reading.band.image_frac_coords, np.array(row["image_frac_coords"]))
        np.testing.assert_array_equal(reading.band.host_frac_coords, np.array(row["host_frac_coords"]))
        if row["sound"]:
            assert reading.warnings == ()
        else:
            assert any("passes" in warning for warning in reading.warnings)
    assert refused == OVERLAPPING_ROWS


@pytest.mark.parametrize("image_count", [3, 5, 9])
def test_wrapped_images_are_unwrapped_step_by_step_and_never_shortened(data_rows: list[Row], image_count: int) -> None:
    rows = data_rows if image_count == 3 else data_rows[::7]
    for row in rows:
        if row["id"] in OVERLAPPING_ROWS:
            continue
        first, last = np.array(row["image_frac_coords"])[[0, -1]]
        images = first + np.linspace(0, 1, image_count)[:, None] * (last - first)
        band = read_json_band({**row, "image_frac_coords": (images % 1).tolist()}, LIMITS).band
        hop = band.image_frac_coords[-1] - band.image_frac_coords[0]
        np.testing.assert_allclose(hop, last - first, atol=1e-9, err_msg=str(row["id"]))


def test_every_format_gives_the_same_band(some_rows: list[Row]) -> None:
    for row in some_rows:
        band = read_json_band(json.dumps(row).encode(), LIMITS).band
        readings = [
            read_band_file(named(json.dumps(band_to_json(band)), "band.json"), LIMITS),
            read_band_file(named(band_to_extxyz(band), "band.xyz"), LIMITS),
            read_band_file(named(band_to_poscar_zip(band), "neb.zip"), LIMITS),
        ]
        for reading in readings:
            assert_same(band, reading.band)
            assert reading.band.relaxed_host_frac_coords is None
            assert len(reading.band.image_frac_coords) == len(band.image_frac_coords)


def test_two_cif_end_points_give_the_same_band(some_rows: list[Row]) -> None:
    long_ways = {"Li7P3Se11", "MgxTi2P3O12_2"}
    for row in some_rows:
        if row["id"] in long_ways or len(np.array(row["host_species"])) > 100:
            continue
        band = read_json_band(row, LIMITS).band
        initial, final = band_to_cif_end_points(band)
        reading = read_end_points(named(initial, "initial.cif"), named(final, "final.cif"), LIMITS)
        assert_same(band, reading.band)


def test_end_points_take_the_longer_way_where_the_offset_says_so(data_rows: list[Row]) -> None:
    row = next(row for row in data_rows if row["id"] == "Li7P3Se11")
    band = read_json_band(row, LIMITS).band
    first, last = band.image_frac_coords[[0, -1]]
    offset = np.rint((last - last % 1) - (first - first % 1)).astype(int)
    initial, final = (named(text, f"{k}.cif") for k, text in enumerate(band_to_cif_end_points(band)))
    shortest = read_end_points(initial, final, LIMITS).band
    assert shortest.hop_distance_angstrom == pytest.approx(4.54, abs=0.01)
    a, b, c = (int(value) for value in offset)
    longer = read_end_points(initial, final, LIMITS, ion="Li", offset=(a, b, c)).band
    assert_same(band, longer)


def test_every_published_cif_is_read(data_dir: Path) -> None:
    files = sorted((data_dir / "cifs").glob("*.cif"))
    assert len(files) == 40
    for path in files:
        crystal = read_crystal(named(path.read_bytes(), path.name), LIMITS)
        expected = len(Structure.from_str(path.read_text(), fmt="cif")) if path.name in ("fwz.cif", "opo.cif") else 0
        assert len(crystal.sites) >= max(expected, 5)
        assert "Li" in crystal.formula
        assert all(sum(amount for _, amount in site.species) <= 1 + 1e-6 for site in crystal.sites)


def rock_salt(*, hopped: bool) -> Structure:
    """NaCl with one Na missing, before or after a neighbour has gone there."""
    face_centred = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    coordinates = np.vstack([face_centred, face_centred + 0.5])
    structure = Structure(Lattice.cubic(5.64), ["Na"] * 4 + ["Cl"] * 4, coordinates)
    structure.make_supercell(2)
    vacancy = structure[0].frac_coords
    neighbour = int(structure.distance_matrix[0, :32][1:].argmin()) + 1
    if hopped:
        structure.replace(neighbour, structure[neighbour].specie, vacancy)
    structure.remove_sites([0])
    return structure


def test_end_points_may_be_poscar_and_pymatgen_json_and_turned_cells() -> None:
    first, last = rock_salt(hopped=False), rock_salt(hopped=True)
    band = read_end_points(
        named(first.to(fmt="poscar"), "POSCAR"), named(json.dumps(last.as_dict()), "final.json"), LIMITS
    ).band
    assert band.ion == "Na"
    assert band.hop_distance_angstrom == pytest.approx(5.64 / 2**0.5, abs=1e-3)
    turned = Structure(Lattice(last.lattice.matrix[:, [1, 2, 0]]), last.species, last.frac_coords)
    other = read_end_points(named(first.to(fmt="cif"), "a.cif"), named(turned.to(fmt="poscar"), "b.vasp"), LIMITS).band
    assert_same(band, other)


def test_charges_and_deuterium_are_read_as_their_elements() -> None:
    structure = Structure(Lattice.cubic(4), ["Li+", "D", "O2-"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]])
    for text, name in ((json.dumps(structure.as_dict()), "a.json"), (structure.to(fmt="cif"), "a.cif")):
        assert read_crystal(named(text, name), LIMITS).formula == "H1 Li1 O1"


def test_a_poscar_is_read_with_scale_cartesian_positions_selective_dynamics_and_pseudopotential_names() -> None:
    text = (
        "title\n2.0\n2 0 0\n0 2 0\n0 0 2\nLi_sv O/1a2b\n1 1\nSelective dynamics\nCartesian\n0 0 0 T T T\n1 1 1 F F F\n"
    )
    crystal = read_crystal(named(text, "POSCAR"), LIMITS)
    np.testing.assert_allclose(crystal.lattice_angstrom, np.eye(3) * 4)
    assert crystal.sites[1].frac_coords == pytest.approx((0.5, 0.5, 0.5))
    assert crystal.formula == "Li1 O1"
    by_volume = read_crystal(named(text.replace("2.0\n", "-64.0\n", 1), "POSCAR"), LIMITS)
    np.testing.assert_allclose(by_volume.lattice_angstrom, np.eye(3) * 4)


def test_extended_xyz_as_ase_writes_it_is_read(data_rows: list[Row]) -> None:
    band = read_json_band(data_rows[3], LIMITS).band
    images = []
    for position in band.image_frac_coords:
        frac = np.vstack([position, band.host_frac_coords])
        atoms = Atoms([band.ion, *band.host_species], scaled_positions=frac, cell=band.lattice_angstrom, pbc=True)
        atoms.arrays["forces"] = np.zeros((len(atoms), 3))
        images.append(atoms)
    text = io.StringIO()
    write(text, images, format="extxyz")
    assert_same(band, read_band_file(named(text.getvalue(), "neb.extxyz"), LIMITS).band)


def test_atoms_in_another_order_in_each_frame_are_matched(data_rows: list[Row]) -> None:
    band = read_json_band(data_rows[10], LIMITS).band
    frames = band_to_extxyz(band).splitlines()
    size = band.atom_count + 2
    generator = np.random.default_rng(0)
    shuffled: list[str] = []
    for start in range(0, len(frames), size):
        atoms = frames[start + 2 : start + size]
        shuffled += frames[start : start + 2] + [atoms[k] for k in generator.permutation(len(atoms))]
    reading = read_band_file(named("\n".join(shuffled), "band.xyz"), LIMITS)
    assert_same(band, reading.band)
    assert reading.band.relaxed_host_frac_coords is None


def relaxed_frames(host_shift_angstrom: float, bow_angstrom: float = 0.0) -> str:
    lines = []
    for k in range(3):
        share = k / 2
        away = bow_angstrom * (k == 1)
        lines += ["3", 'Lattice="8 0 0 0 8 0 0 0 8" Properties=species:S:1:pos:R:3']
        lines += [
            f"O 4 4 {4 + host_shift_angstrom * share}",
            f"Li {share * 3} 0 {7.9 + away}",
            "O 4 0 4",
        ]
    return "\n".join(lines)


def test_relaxed_hosts_are_kept_and_come_back_from_json() -> None:
    reading = read_band_file(named(relaxed_frames(0.5), "band.xyz"), LIMITS)
    band = reading.band
    assert band.ion == "Li"
    assert band.relaxed_host_frac_coords is not None
    assert band.relaxed_host_frac_coords.shape == (3, 2, 3)
    assert any("O (host atom 0) by 0.50" in warning for warning in reading.warnings)
    again = read_json_band(json.dumps(band_to_json(band)).encode(), LIMITS)
    assert again.warnings == reading.warnings
    assert again.band.relaxed_host_frac_coords is not None
    np.testing.assert_array_equal(again.band.relaxed_host_frac_coords, band.relaxed_host_frac_coords)


def test_a_curved_path_is_kept_with_a_warning_past_0_3_angstrom() -> None:
    assert read_band_file(named(relaxed_frames(0.0, 0.25), "band.xyz"), LIMITS).warnings == ()
    reading = read_band_file(named(relaxed_frames(0.2, 0.6), "band.xyz"), LIMITS)
    assert len(reading.warnings) == 1
    assert "leaves the straight line between its end points by up to 0.60 angstrom" in reading.warnings[0]
    assert reading.band.image_frac_coords[1, 2] * 8 == pytest.approx(8.5)


def test_two_images_alone_take_the_shortest_way_and_say_where_two_are_nearly_equal(data_rows: list[Row]) -> None:
    row = {
        "lattice_angstrom": [[8, 0, 0], [0, 8, 0], [0, 0, 8]],
        "host_species": ["O"],
        "host_frac_coords": [[0.5, 0.5, 0.5]],
        "ion": "Li",
    }
    short = read_json_band({**row, "image_frac_coords": [[0, 0, 0], [0.9, 0, 0.1]]}, LIMITS)
    np.testing.assert_allclose(short.band.image_frac_coords[-1], [-0.1, 0, 0.1], atol=1e-12)
    assert "not the 7.24 angstrom" in short.warnings[0]
    equal = read_json_band({**row, "image_frac_coords": [[0, 0, 0], [0.5, 0, 0]]}, LIMITS)
    assert "nearly equal, 4.000 and 4.000" in equal.warnings[0]


def along_x(*numbers: float) -> dict[str, object]:
    return {
        "lattice_angstrom": [[8, 0, 0], [0, 8, 0], [0, 0, 8]],
        "host_species": ["O"],
        "host_frac_coords": [[0.1, 0.5, 0.5]],
        "ion": "Li",
        "image_frac_coords": [[x, 0, 0] for x in numbers],
    }


def frames_along_x(*numbers: float) -> File:
    head = '2\nLattice="8 0 0 0 8 0 0 0 8" Properties=species:S:1:pos:R:3\n'
    return named("".join(f"{head}O 1 4 4\nLi {x * 8} 0 0\n" for x in numbers), "band.xyz")


@pytest.mark.parametrize("numbers", [(0.0, 0.7, 1.4), (-0.2, 0.5, 1.2), (1.4, 0.7, 0.0)])
def test_a_step_that_is_written_the_longer_way_in_unwrapped_images_is_reported(numbers: tuple[float, ...]) -> None:
    for reading in (read_json_band(along_x(*numbers), LIMITS), read_band_file(frames_along_x(*numbers), LIMITS)):
        assert abs(np.diff(reading.band.image_frac_coords[:, 0])) == pytest.approx([0.3, 0.3])
        (warning,) = reading.warnings
        assert "2 of 2 steps" in warning
        assert "by 2.40 angstrom and not 5.60" in warning


@pytest.mark.parametrize("numbers", [(0.8, 0.95, 0.1), (0.4, 0.49, -0.42), (0.8, 0.95, 1.1), (-1.2, -1.3, -1.4)])
def test_wrapped_images_and_short_steps_are_joined_in_silence(numbers: tuple[float, ...]) -> None:
    for reading in (read_json_band(along_x(*numbers), LIMITS), read_band_file(frames_along_x(*numbers), LIMITS)):
        assert abs(np.diff(reading.band.image_frac_coords[:, 0])).max() < 0.2
        assert reading.warnings == ()


def test_a_step_of_half_a_cell_is_reported() -> None:
    for read in (
        read_json_band(along_x(0.1, 0.3, 0.797), LIMITS),
        read_band_file(frames_along_x(0.1, 0.3, 0.797), LIMITS),
    ):
        (warning,) = read.warnings
        assert "from image 1 to image 2 are nearly equal, 3.976 and 4.024" in warning


def test_published_rows_are_read_exactly_as_they_are_and_their_steps_in_silence(data_rows: list[Row]) -> None:
    for row in data_rows:
        if row["id"] in OVERLAPPING_ROWS:
            continue
        reading = read_json_band(row, LIMITS)
        np.testing.assert_array_equal(reading.band.image_frac_coords, np.array(row["image_frac_coords"]))
        assert not any("image" in warning for warning in reading.warnings), row["id"]


def zipped(members: dict[str, str]) -> File:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return named(packed.getvalue(), "neb.zip")


def poscar(x: float) -> str:
    return f"title\n1\n8 0 0\n0 8 0\n0 0 8\nLi O\n1 1\nDirect\n{x} 0 0\n0.5 0.5 0.5\n"


def test_a_zip_prefers_contcar_and_passes_by_what_is_no_image() -> None:
    file = zipped(
        {
            "run/00/POSCAR": poscar(0.0),
            "run/01/POSCAR": poscar(0.7),
            "run/01/CONTCAR": poscar(0.15),
            "run/01/OUTCAR": "energies",
            "run/02/POSCAR": poscar(0.3),
            "run/02/CONTCAR": "",
            "__MACOSX/run/00/POSCAR": "rubbish",
            "run/INCAR": "IMAGES = 1",
        }
    )
    images = read_band_file(file, LIMITS).band.image_frac_coords
    np.testing.assert_allclose(images[:, 0], [0, 0.15, 0.3])


@pytest.mark.parametrize("pattern", ["{:02d}.vasp", "neb/POSCAR_{}", "image-{}.vasp"])
def test_a_zip_of_numbered_files_is_sorted_by_number(pattern: str) -> None:
    file = zipped({pattern.format(k): poscar(0.03 * k) for k in (10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7)})
    images = read_band_file(file, LIMITS).band.image_frac_coords
    np.testing.assert_allclose(images[:, 0], np.arange(11) * 0.03)


def test_a_zip_may_hold_one_band_file_and_a_gap_is_reported() -> None:
    assert len(read_band_file(zipped({"a/band.xyz": relaxed_frames(0)}), LIMITS).band.image_frac_coords) == 3
    gap = read_band_file(zipped({"00/POSCAR": poscar(0), "02/POSCAR": poscar(0.3)}), LIMITS)
    assert "no image 01" in gap.warnings[0]
