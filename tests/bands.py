"""Bands for the tests of graphs and networks, and the transformations that must change nothing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from app.crystals.band import Band


def band_of(row: Mapping[str, Any]) -> Band:
    return Band(
        lattice_angstrom=np.array(row["lattice_angstrom"], dtype=float),
        host_species=tuple(row["host_species"]),
        host_frac_coords=np.array(row["host_frac_coords"], dtype=float),
        ion=str(row["ion"]),
        image_frac_coords=np.array(row["image_frac_coords"], dtype=float),
    )


def rock_salt(spacing_angstrom: float = 2.1) -> Band:
    """A lithium ion between two tetrahedral voids of a 4x4x4 block of MgO."""
    steps = np.arange(4)
    corners = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    return Band(
        lattice_angstrom=np.eye(3) * 4 * spacing_angstrom,
        host_species=tuple("MgO"[:2] if corner.sum() % 2 else "O" for corner in corners),
        host_frac_coords=corners / 4,
        ion="Li",
        image_frac_coords=np.array([[0.125, 0.125, 0.125], [0.375, 0.125, 0.125]]),
    )


def permuted(band: Band, generator: np.random.Generator) -> Band:
    order = generator.permutation(len(band.host_species))
    return replace(
        band,
        host_species=tuple(band.host_species[number] for number in order),
        host_frac_coords=band.host_frac_coords[order],
    )


def shifted(band: Band, generator: np.random.Generator) -> Band:
    shift = generator.random(3)
    host = (band.host_frac_coords + shift) % 1.0
    return replace(band, host_frac_coords=host, image_frac_coords=band.image_frac_coords + shift)


def rotated(band: Band, generator: np.random.Generator) -> Band:
    rotation = Rotation.random(random_state=int(generator.integers(1 << 31))).as_matrix()
    return replace(band, lattice_angstrom=band.lattice_angstrom @ rotation.T)


def resettled(band: Band, generator: np.random.Generator) -> Band:
    """The same crystal with other lattice vectors: one is replaced by its sum with another."""
    first, second = generator.permutation(3)[:2]
    change = np.eye(3)
    change[first, second] = 1.0
    back = np.linalg.inv(change)
    return replace(
        band,
        lattice_angstrom=change @ band.lattice_angstrom,
        host_frac_coords=(band.host_frac_coords @ back) % 1.0,
        image_frac_coords=band.image_frac_coords @ back,
    )


def reversed_hop(band: Band, generator: np.random.Generator) -> Band:
    return replace(band, image_frac_coords=band.image_frac_coords[::-1].copy())


def with_images(band: Band, count: int) -> Band:
    steps = np.linspace(0.0, 1.0, count)[:, None]
    first, last = band.image_frac_coords[0], band.image_frac_coords[-1]
    return replace(band, image_frac_coords=first + steps * (last - first))


CHANGES = {
    "atom order": permuted,
    "cell origin": shifted,
    "rotation": rotated,
    "lattice setting": resettled,
    "direction": reversed_hop,
}
