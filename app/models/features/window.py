"""The window that the ion passes halfway: the triangle of the nearest anions, and the ring across the hop."""

from functools import cache
from itertools import combinations

import numpy as np

from app.crystals.band import FloatArray, IntArray
from app.crystals.hops.surroundings import fade
from app.models.features.surroundings import FIRST, LAST, MIDDLE, Surroundings, along_atoms

_ALIKE_ANGSTROM = 0.15  # an anion's weight falls e-fold over this much distance beyond the nearest one
_REACH_ANGSTROM = 1.5  # and to zero here
_MOST_ANIONS = 14  # of a window: further ones do not change its averages
_ACROSS_ANGSTROM = 1.5  # how far along the hop from the middle an atom still belongs to the ring
_FAR_ANGSTROM = 6.0

WINDOW_NAMES = (
    "window_area_angstrom2",
    "window_perimeter_angstrom",
    "window_height_angstrom",
    "window_radius_angstrom",
    "window_to_ion_area",
    "ring_anion_distance_angstrom",
    "ring_anions",
    "ring_cations",
    "hop_axis_anion_angstrom",
)


def window(around: Surroundings) -> dict[str, FloatArray]:
    """The descriptors of WINDOW_NAMES, at the middle of the line.

    Triangles of anions are averaged, each weighted by how near its corners are, so that it does not matter which
    three of several equally near ones are called nearest. Height is that of the middle above the triangle's
    centre, radius from there to the corners. The ring consists of the atoms in the plane across the hop.
    """
    return _triangles(around) | _ring(around)


def _triangles(around: Surroundings) -> dict[str, FloatArray]:
    names = WINDOW_NAMES[:5]
    corners, part = _nearest_anions(around)
    if part.shape[-1] < 3:  # noqa: PLR2004 - a triangle
        return dict.fromkeys(names, np.zeros(part.shape[:-1]))
    chosen = _threes(part.shape[-1])
    weight = part[..., chosen].prod(axis=-2)
    triangles = corners[..., chosen, :]  # three corners, every triangle, three coordinates
    sides = triangles[..., [1, 2, 0], :, :] - triangles
    lengths = _lengths(sides)
    across = np.einsum("...ti,...ti->...t", sides[..., 0, :, :], sides[..., 1, :, :])
    area = 0.5 * np.sqrt(np.maximum((lengths[..., 0, :] * lengths[..., 1, :]) ** 2 - across**2, 0.0))
    perimeter = lengths.sum(axis=-2)
    centre = triangles.mean(axis=-3)
    height = _lengths(centre)
    radius = _lengths(triangles - centre[..., None, :, :]).mean(axis=-2)
    total = weight.sum(axis=-1)
    # no weight where a hop of a stack has fewer than three corners
    per_weight = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0.0)
    means = [(weight * values).sum(axis=-1) * per_weight for values in (area, perimeter, height, radius)]
    ion_area = np.pi * np.maximum(around.ion_radius_angstrom, 0.1) ** 2
    return dict(zip(names, [*means, means[0] / ion_area], strict=True))


@cache
def _threes(count: int) -> IntArray:
    """Every three of some corners, shape [3, n]."""
    return np.array(list(combinations(range(count), 3)), dtype=np.int64).T.copy()


def _lengths(vectors: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.einsum("...i,...i->...", vectors, vectors)))


def _nearest_anions(around: Surroundings) -> tuple[FloatArray, FloatArray]:
    """Vectors from the middle to the nearest anions, shape [..., n, 3], angstrom, and their weights, shape [..., n]."""
    distance = around.distance[..., MIDDLE, :] + _FAR_ANGSTROM * (1.0 - around.anion)
    if not distance.shape[-1]:
        return np.zeros((*distance.shape, 3)), np.zeros(distance.shape)
    excess = distance - distance.min(axis=-1, keepdims=True)
    order = np.argsort(excess, axis=-1, kind="stable")[..., :_MOST_ANIONS]
    excess = np.take_along_axis(excess, order, axis=-1)
    part = np.exp(-excess / _ALIKE_ANGSTROM) * fade(excess / _REACH_ANGSTROM)
    part[np.take_along_axis(around.numbers, order, axis=-1) == 0] = 0.0  # where a hop has no atoms, nothing is nearest
    most = int((part > 0.0).sum(axis=-1).max())
    places = np.take_along_axis(around.positions, order[..., :most, None], axis=-2)
    return places - around.points[..., MIDDLE, None, :], part[..., :most]


def _ring(around: Surroundings) -> dict[str, FloatArray]:
    hop = around.points[..., LAST, :] - around.points[..., FIRST, :]
    apart = around.positions - around.points[..., MIDDLE, None, :]
    length = np.maximum(_lengths(hop), 1e-6)
    along = np.abs(along_atoms(apart, hop)) / length[..., None]
    across = np.sqrt(np.maximum(np.einsum("...ai,...ai->...a", apart, apart) - along**2, 0.0))
    near = fade(along / _ACROSS_ANGSTROM)
    inside = near * fade((across - 2.5) / 1.5)
    nearest = across + _FAR_ANGSTROM * (1.0 - around.anion * near)
    axis = along + _FAR_ANGSTROM * (1.0 - around.anion * fade((across - 0.5) / 1.5))
    return {
        "ring_anion_distance_angstrom": nearest.min(axis=-1, initial=_FAR_ANGSTROM),
        "ring_anions": (around.anion * inside).sum(axis=-1),
        "ring_cations": (around.cation * inside).sum(axis=-1),
        "hop_axis_anion_angstrom": axis.min(axis=-1, initial=_FAR_ANGSTROM),
    }
