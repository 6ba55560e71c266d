"""A row of a barrier file: how it is made from a band, and what is computed where a row does not have it."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from app.crystals.band import MODEL_IMAGE_COUNT, Band, model_band
from app.crystals.geometry.distances import clearances_angstrom
from app.crystals.geometry.periodic import near_pairs
from app.crystals.path_energies import IMPOSSIBLE_EV
from app.crystals.readers.json_band import FIELDS
from app.crystals.validation import CLOSE_PASS_ANGSTROM

FOLD_COUNT = 10
#: Images that agree to this are the same: rows are rounded, some to six decimals.
_STRAIGHT = 1e-5
#: Longer than the distance between nearest neighbours in any crystal.
_NEIGHBOURS_ANGSTROM = 4.0
_DECIMALS = 8


def barrier_row(
    row_id: str, band: Band, barrier_ev: float, folds: Mapping[str, int], **about: str | bool
) -> dict[str, Any]:
    """The JSON object of one labelled band, rounded as the rows of the data set are.

    Args:
        row_id: unique among all rows that are read together.
        band: five straight images in an unrelaxed host, as `straight_band` makes them.
        barrier_ev: eV.
        folds: by folding; empty where the reader of the row is to choose them.
        about: further fields, such as `family`, `xc` (the functional), `material_id`, `source`.
    """
    closest_angstrom = closest_approach_angstrom(band)
    return {
        "id": row_id,
        **about,
        "ion": band.ion,
        "chemical_system": chemical_system(band),
        "lattice_angstrom": _rounded(band.lattice_angstrom),
        "host_species": list(band.host_species),
        "host_frac_coords": _rounded(band.host_frac_coords),
        "image_frac_coords": _rounded(band.image_frac_coords),
        "barrier_ev": barrier_ev,
        **folds,
        "closest_approach_angstrom": round(closest_angstrom, 3),
        "sound": closest_angstrom >= CLOSE_PASS_ANGSTROM,
    }


def barrier_fault(barrier_ev: float, given: object) -> str | None:
    """What is wrong with a barrier, shown as it was given; None where nothing is."""
    if not 0.0 < barrier_ev < math.inf:
        return f"barrier_ev is {given!r}, not a number of eV above zero"
    if barrier_ev > IMPOSSIBLE_EV:
        return (
            f"barrier_ev is {given!r}, above {IMPOSSIBLE_EV:g} eV, and no barrier is as high: it is in eV, so "
            "divide meV by 1000"
        )
    return None


def straight_band(band: Band) -> Band:
    """The band as models are fitted on it; one that is so already is returned as it is, to the last digit."""
    straight = model_band(band)
    same = len(band.image_frac_coords) == MODEL_IMAGE_COUNT and band.relaxed_host_frac_coords is None
    if same and np.abs(band.image_frac_coords - straight.image_frac_coords).max() < _STRAIGHT:
        return band
    return straight


def chemical_system(band: Band) -> str:
    """Elements of the host and the ion, in alphabetical order, such as Fe-Li-O-P."""
    return "-".join(sorted({band.ion, *band.host_species}))


def closest_approach_angstrom(band: Band) -> float:
    """The smallest distance between any two atoms over the band's images, angstrom."""
    _, between_host = near_pairs(band.host_frac_coords, None, band.lattice_angstrom, _NEIGHBOURS_ANGSTROM)
    from_images, _ = clearances_angstrom(band, _NEIGHBOURS_ANGSTROM)
    return float(min(between_host.min(initial=np.inf), from_images.min(initial=np.inf)))


def is_sound(band: Band) -> bool:
    """Whether no two atoms overlap on the straight line."""
    return closest_approach_angstrom(band) >= CLOSE_PASS_ANGSTROM


def chosen_fold(group: str) -> int:
    """The fold of a group of rows that no table lists: the same in every call and on every machine."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % FOLD_COUNT


def band_of_row(row: Mapping[str, Any]) -> Band:
    """The band of a row whose content is known to be valid."""
    lattice, species, host, ion, images = (row[field] for field in FIELDS)
    return Band(
        lattice_angstrom=np.array(lattice, dtype=np.float64),
        host_species=tuple(species),
        host_frac_coords=np.array(host, dtype=np.float64),
        ion=ion,
        image_frac_coords=np.array(images, dtype=np.float64),
    )


def _rounded(values: np.ndarray) -> list[list[float]]:
    rounded: list[list[float]] = np.round(values, _DECIMALS).tolist()
    return rounded
