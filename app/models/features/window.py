"""The window that the ion passes halfway: the triangle of the nearest anions, and the ring across the hop."""

from functools import cache
from itertools import combinations

import numpy as np

from app.crystals.band import FloatArray, IntArray
from app.crystals.hops.surroundings import fade
from app.models.features.surroundings import FIRST, LAST, MIDDLE, Surroundings

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


def window(around: Surroundings) -> dict[str, float]:
    """The descriptors of WINDOW_NAMES, at the middle of the line.

    Triangles of anions are averaged, each weighted by how near its corners are, so that it does not matter which
    three of several equally near ones are called nearest. Height is that of the middle above the triangle's
    centre, radius from there to the corners. The ring consists of the atoms in the plane across the hop.
    """
    return _triangles(around) | _ring(around)


def _triangles(around: Surroundings) -> dict[str, float]:
    names = WINDOW_NAMES[:5]
    corners, part = _nearest_anions(around)
    if len(corners) < 3:  # noqa: PLR2004 - a triangle
        return dict.fromkeys(names, 0.0)
    chosen = _threes(len(corners))
    weight = part[chosen].prod(axis=0)
    triangles = corners[chosen]  # three corners, every triangle, three coordinates
    sides = triangles[[1, 2, 0]] - triangles
    lengths = _lengths(sides)
    area = 0.5 * np.sqrt(np.maximum(np.prod(lengths[:2] ** 2, axis=0) - (sides[0] * sides[1]).sum(axis=1) ** 2, 0.0))
    perimeter = lengths.sum(axis=0)
    centre = triangles.mean(axis=0)
    height = _lengths(centre)
    radius = _lengths(triangles - centre).mean(axis=0)
    means = [float(weight @ values / weight.sum()) for values in (area, perimeter, height, radius)]
    ion_area = np.pi * max(around.ion_radius_angstrom, 0.1) ** 2
    return dict(zip(names, [*means, means[0] / ion_area], strict=True))


@cache
def _threes(count: int) -> IntArray:
    """Every three of some corners, shape [3, n]."""
    return np.array(list(combinations(range(count), 3)), dtype=np.int64).T.copy()


def _lengths(vectors: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.einsum("...i,...i->...", vectors, vectors)))


def _nearest_anions(around: Surroundings) -> tuple[FloatArray, FloatArray]:
    """Vectors from the middle to the nearest anions, shape [n, 3], angstrom, and their weights, shape [n]."""
    distance = around.distance[MIDDLE] + _FAR_ANGSTROM * (1.0 - around.anion)
    if not len(distance):
        return np.zeros((0, 3)), np.zeros(0)
    excess = distance - distance.min()
    part = np.exp(-excess / _ALIKE_ANGSTROM) * fade(excess / _REACH_ANGSTROM)
    order = np.argsort(excess, kind="stable")[:_MOST_ANIONS]
    order = order[part[order] > 0.0]
    return around.positions[order] - around.points[MIDDLE], part[order]


def _ring(around: Surroundings) -> dict[str, float]:
    hop = around.points[LAST] - around.points[FIRST]
    apart = around.positions - around.points[MIDDLE]
    length = float(np.linalg.norm(hop))
    along = np.abs(apart @ hop) / max(length, 1e-6)
    across = np.sqrt(np.maximum(np.einsum("ai,ai->a", apart, apart) - along**2, 0.0))
    inside = fade(along / _ACROSS_ANGSTROM) * fade((across - 2.5) / 1.5)
    anions = around.anion * inside
    nearest = across + _FAR_ANGSTROM * (1.0 - around.anion * fade(along / _ACROSS_ANGSTROM))
    axis = along + _FAR_ANGSTROM * (1.0 - around.anion * fade((across - 0.5) / 1.5))
    return {
        "ring_anion_distance_angstrom": float(min(nearest.min(initial=_FAR_ANGSTROM), _FAR_ANGSTROM)),
        "ring_anions": float(anions.sum()),
        "ring_cations": float((around.cation * inside).sum()),
        "hop_axis_anion_angstrom": float(min(axis.min(initial=_FAR_ANGSTROM), _FAR_ANGSTROM)),
    }
