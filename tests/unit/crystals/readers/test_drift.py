"""A displacement that all atoms of the host share is taken off, reported, and changes no band."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from composed import composed_bands

from app.crystals.band import Band, FloatArray
from app.crystals.limits import Limits
from app.crystals.readers import Reading, read_end_points, read_json_band
from app.crystals.readers.frames import Frame, band_of_frames
from app.crystals.readers.reading import File
from app.crystals.writers import band_to_json, band_to_poscars
from app.errors import InputError

SHIFT_ANGSTROM = np.array([0.5, -0.4, 0.48])
BANDS = ("LiFePO4 1", "LiCoO2 1", "MgMn2O4 1", "NaCl 1")


def frames_of(band: Band, shifts_angstrom: Sequence[FloatArray], *, shuffled: bool = False) -> list[Frame]:
    """The images of a band, each displaced as a whole, wrapped into the cell."""
    frames = []
    for k, (image, shift) in enumerate(zip(band.image_frac_coords, shifts_angstrom, strict=True)):
        order = list(range(band.atom_count))
        if shuffled:
            random.Random(k).shuffle(order)
        frac = np.vstack([band.host_frac_coords, image]) + shift @ np.linalg.inv(band.lattice_angstrom)
        species = (*band.host_species, band.ion)
        frames.append(
            Frame(
                lattice_angstrom=band.lattice_angstrom,
                species=tuple(species[index] for index in order),
                frac_coords=frac[order] % 1.0,
                name=f"image {k}",
            )
        )
    return frames


def same_hop(reading: Reading, band: Band) -> bool:
    return bool(np.allclose(reading.band.hop_vector_angstrom, band.hop_vector_angstrom, atol=1e-6))


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("length", [0.2, 0.8, 1.3])
@pytest.mark.parametrize("name", BANDS)
def test_a_common_drift_is_taken_off_and_reported(name: str, length: float, shuffled: bool) -> None:
    band = composed_bands()[name]
    whole = SHIFT_ANGSTROM / np.linalg.norm(SHIFT_ANGSTROM) * length
    shifts = [whole * share for share in np.linspace(0.0, 1.0, len(band.image_frac_coords))]
    reading = band_of_frames(frames_of(band, shifts, shuffled=shuffled), Limits())
    assert same_hop(reading, band)
    assert reading.band.relaxed_host_frac_coords is None
    (warning,) = [text for text in reading.warnings if "drifts" in text]
    assert f"displaced together by {length:.2f} angstrom" in warning
    ends = frames_of(band, [shifts[0], *shifts[1:]], shuffled=shuffled)
    assert same_hop(band_of_frames([ends[0], ends[-1]], Limits()), band)


def test_another_origin_is_no_drift() -> None:
    band = composed_bands()["LiFePO4 1"]
    shifts = [np.zeros(3), *[SHIFT_ANGSTROM * 3] * (len(band.image_frac_coords) - 1)]
    with pytest.raises(InputError, match="not two images of one crystal"):
        band_of_frames(frames_of(band, shifts), Limits())


def test_what_does_not_drift_stays_as_it_is() -> None:
    band = composed_bands()["LiFePO4 1"]
    reading = band_of_frames(frames_of(band, [np.zeros(3)] * len(band.image_frac_coords)), Limits())
    assert not any("drift" in warning for warning in reading.warnings)
    assert same_hop(reading, band)


def test_the_relaxed_hosts_of_a_json_band_drift_too() -> None:
    band = composed_bands()["LiFePO4 1"]
    shifts = np.linspace(0, 0.8, len(band.image_frac_coords))[:, None] * np.array([0.6, 0.8, 0.0])
    moved = shifts @ np.linalg.inv(band.lattice_angstrom)
    record = band_to_json(band) | {
        "image_frac_coords": (band.image_frac_coords + moved).tolist(),
        "host_frac_coords": band.host_frac_coords.tolist(),
        "lattice_angstrom": band.lattice_angstrom.tolist(),
        "relaxed_host_frac_coords": (band.host_frac_coords + moved[:, None, :]).tolist(),
    }
    reading = read_json_band(record, Limits())
    assert same_hop(reading, band)
    assert any("displaced together by 0.80 angstrom" in warning for warning in reading.warnings)


def test_end_points_with_a_drift_and_an_offset() -> None:
    band = composed_bands()["LiFePO4 1"]
    first, *_, last = band_to_poscars(band)
    file = File(name="initial", content=first.encode())
    plain = read_end_points(file, File(name="final", content=last.encode()), Limits(), offset=(0, 0, 0))
    lines = last.splitlines()
    head, rows = lines[:8], [line.split() for line in lines[8:]]
    moved = "\n".join([*head, *(f"{float(r[0]) + 0.02} {r[1]} {r[2]}" for r in rows if len(r) >= 3)]) + "\n"
    drifted = read_end_points(file, File(name="final", content=moved.encode()), Limits(), offset=(0, 0, 0))
    assert np.allclose(drifted.band.hop_vector_angstrom, plain.band.hop_vector_angstrom, atol=1e-6)
    assert any("The host drifts" in warning for warning in drifted.warnings)
