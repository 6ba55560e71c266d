"""Ninety-two one-hot features of an element, after the table of CGCNN (Xie and Grossman 2018)."""

from functools import cache

import numpy as np
import torch
from pymatgen.core import Element

FEATURE_COUNT = 92
ELEMENT_COUNT = 100  # rows 0..100, indexed by atomic number; row 0 is empty

_GROUPS, _PERIODS, _BLOCKS, _VALENCES = 18, 8, ("s", "p", "d", "f"), 12
_BINS = 10
# Ranges of the binned properties over the elements to fermium.
_ELECTRONEGATIVITY = (0.5, 4.0)
_RADIUS_ANGSTROM = (0.25, 2.6)
_LOG_IONISATION_EV = (np.log(3.8), np.log(25.0))
_AFFINITY_EV = (-3.0, 3.7)
_LOG_VOLUME_CM3 = (np.log(4.0), np.log(75.0))


@cache
def element_features() -> torch.Tensor:
    """The table of features by atomic number, shape [ELEMENT_COUNT + 1, FEATURE_COUNT].

    Group (18), period (8), electronegativity (10), atomic radius (10), valence electrons (12), first ionisation
    energy (10), electron affinity (10), block (4) and molar volume (10). A property without a tabulated value
    leaves its columns empty. A checkpoint carries the table it was fitted with, so that a later edition of the
    tabulated values cannot change its answers.
    """
    rows = [np.zeros(FEATURE_COUNT, dtype=np.float32)]
    rows += [_features(Element.from_Z(number)) for number in range(1, ELEMENT_COUNT + 1)]
    return torch.from_numpy(np.stack(rows))


def _features(element: Element) -> np.ndarray:
    volume = element.data.get("Molar volume")
    return np.concatenate(
        [
            _one_hot(element.group - 1, _GROUPS),
            _one_hot(element.row - 1, _PERIODS),
            _binned(_number(element.data.get("X")), _ELECTRONEGATIVITY),
            _binned(_number(element.atomic_radius), _RADIUS_ANGSTROM),
            _one_hot(min(_valence_electrons(element), _VALENCES) - 1, _VALENCES),
            _binned(_log(_number(element.ionization_energy)), _LOG_IONISATION_EV),
            _binned(_number(element.electron_affinity), _AFFINITY_EV),
            _one_hot(_BLOCKS.index(element.block), len(_BLOCKS)),
            _binned(_log(_number(volume)), _LOG_VOLUME_CM3),
        ]
    )


def _valence_electrons(element: Element) -> int:
    """Electrons outside the noble-gas core, without filled d and f shells below the valence p shell."""
    if element.Z == 2:  # noqa: PLR2004 - helium, which is grouped with the p block
        return 2
    if element.block in "sp":
        return int(element.group if element.group <= 2 else element.group - 10)  # noqa: PLR2004 - s block
    if element.block == "d":
        return int(element.group)
    return 3  # lanthanides and actinides bond mostly with three


def _one_hot(index: int, size: int) -> np.ndarray:
    row = np.zeros(size, dtype=np.float32)
    row[min(max(index, 0), size - 1)] = 1.0
    return row


def _binned(value: float | None, bounds: tuple[float, float]) -> np.ndarray:
    if value is None:
        return np.zeros(_BINS, dtype=np.float32)
    low, high = bounds
    return _one_hot(int((value - low) / (high - low) * _BINS), _BINS)


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]  # pymatgen gives floats with units, None or words
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _log(value: float | None) -> float | None:
    return None if value is None or value <= 0 else float(np.log(value))
