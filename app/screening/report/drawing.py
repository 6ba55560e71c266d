"""A hop drawn as SVG: the ion's way between its two sites, and the atoms around it."""

from collections.abc import Sequence
from html import escape

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.data.colors import jmol_colors

from app.crystals.band import Band, FloatArray
from app.crystals.crystal import Crystal
from app.crystals.hops.surroundings import host_near_path
from app.screening.report.ranking import Row

_REACH_ANGSTROM = 3.6
_WIDTH, _HEIGHT, _MARGIN = 260, 190, 18
_SAME_ANGSTROM = 0.4
_MOST_ATOMS = 60


def hop_svg(crystal: Crystal, hop: Row, ion: str) -> str:
    """Draw a hop seen across its direction, so that it lies from left to right.

    Args:
        crystal: as uploaded.
        hop: a row of the hops' table.
        ion: element symbol of the one that hops.
    """
    lattice = crystal.lattice_angstrom
    ends = np.array([hop["from_frac_coords"], hop["to_frac_coords"]], dtype=np.float64)
    symbols = tuple(max(site.species, key=lambda one: one[1])[0] for site in crystal.sites)
    band = Band(
        lattice_angstrom=lattice,
        host_species=symbols,
        host_frac_coords=np.array([site.frac_coords for site in crystal.sites]),
        ion=ion,
        image_frac_coords=ends,
    )
    images = ends @ lattice
    near = host_near_path(band, images, _REACH_ANGSTROM)
    away = np.linalg.norm(near.positions[:, None] - images, axis=2).min(axis=1)
    kept = np.flatnonzero(away > _SAME_ANGSTROM)
    kept = kept[np.argsort(near.path_distance[kept])][:_MOST_ATOMS]
    names = [symbols[near.host_index[k]] for k in kept]
    return _svg(_seen(near.positions[kept], images), _seen(images, images), names, ion)


def _seen(points: FloatArray, ends: FloatArray) -> FloatArray:
    """Along the hop, across it, and towards the viewer, angstrom, shape [n, 3]; the origin is the hop's middle."""
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    helper = np.eye(3)[int(np.abs(along).argmin())]
    up = helper - (helper @ along) * along
    up /= np.linalg.norm(up)
    return np.asarray((points - ends.mean(axis=0)) @ np.stack([along, up, np.cross(along, up)], axis=1))


def _svg(atoms: FloatArray, ends: FloatArray, names: Sequence[str], ion: str) -> str:
    reach = np.abs(np.concatenate([atoms, ends])[:, :2]).max(axis=0) + 0.8
    scale = min((_WIDTH - 2 * _MARGIN) / (2 * reach[0]), (_HEIGHT - 2 * _MARGIN) / (2 * reach[1]))

    def place(point: FloatArray) -> tuple[float, float]:
        return _WIDTH / 2 + point[0] * scale, _HEIGHT / 2 - point[1] * scale

    drawn = [(point[2], _circle(*place(point), scale, name)) for point, name in zip(atoms, names, strict=True)]
    (x0, y0), (x1, y1) = place(ends[0]), place(ends[1])
    way = f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="#c2410c" stroke-width="2.5"/>'
    drawn.append((0.0, way + _circle(x0, y0, scale, ion, is_end=True) + _circle(x1, y1, scale, ion, is_end=True)))
    legend = " ".join(
        f'<tspan fill="{_colour(name)}" stroke="#666" stroke-width="0.3">●</tspan> {escape(name)}'
        for name in sorted(set(names))
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{escape(ion)} between its two sites">'
        + "".join(circle for _, circle in sorted(drawn, key=lambda one: one[0]))
        + f'<text x="6" y="{_HEIGHT - 5}" font-size="11">{legend}</text></svg>'
    )


def _circle(x: float, y: float, scale: float, symbol: str, *, is_end: bool = False) -> str:
    radius = max(2.5, 0.55 * float(covalent_radii[atomic_numbers[symbol]]) * scale)
    style = 'stroke="#c2410c" stroke-width="2"' if is_end else 'stroke="#555" stroke-width="0.6" fill-opacity="0.85"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{_colour(symbol)}" {style}/>'


def _colour(symbol: str) -> str:
    red, green, blue = (round(255 * float(value)) for value in jmol_colors[atomic_numbers[symbol]])
    return f"#{red:02x}{green:02x}{blue:02x}"
