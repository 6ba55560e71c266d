"""Writers of bands as JSON, extended XYZ and POSCAR, and of crystals as CIF."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from app.crystals.band import Band, FloatArray
from app.crystals.crystal import Crystal


def band_to_json(band: Band) -> dict[str, Any]:
    """The band under the data set's field names, with `relaxed_host_frac_coords` where hosts differ between images."""
    record: dict[str, Any] = {
        "lattice_angstrom": band.lattice_angstrom.tolist(),
        "host_species": list(band.host_species),
        "host_frac_coords": band.host_frac_coords.tolist(),
        "ion": band.ion,
        "image_frac_coords": band.image_frac_coords.tolist(),
    }
    if band.relaxed_host_frac_coords is not None:
        record["relaxed_host_frac_coords"] = band.relaxed_host_frac_coords.tolist()
    return record


def band_to_extxyz(band: Band) -> str:
    """The band as extended XYZ, one frame per image, the ion last, angstrom."""
    lattice = " ".join(f"{value:.10f}" for value in band.lattice_angstrom.ravel())
    species = (*band.host_species, band.ion)
    lines: list[str] = []
    for frac_coords in band_images(band):
        lines += [str(len(species)), f'Lattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"']
        lines += [
            f"{symbol:<2} {x:16.10f} {y:16.10f} {z:16.10f}"
            for symbol, (x, y, z) in zip(species, frac_coords @ band.lattice_angstrom, strict=True)
        ]
    return "\n".join(lines) + "\n"


def crystal_to_cif(crystal: Crystal, name: str) -> str:
    """The crystal as CIF, every site of its cell listed and no symmetry.

    Args:
        crystal: sites that several elements share have a row for each.
        name: of the data block; what a CIF has no place for in it is replaced.
    """
    lattice = crystal.lattice_angstrom
    a, b, c = lengths = np.linalg.norm(lattice, axis=1)
    cosines = (lattice[1] @ lattice[2] / (b * c), lattice[0] @ lattice[2] / (a * c), lattice[0] @ lattice[1] / (a * b))
    block = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_.") else "_" for sign in name)
    cell = [f"_cell_length_{axis} {length:.8f}" for axis, length in zip("abc", lengths, strict=True)]
    cell += [
        f"_cell_angle_{axis} {np.degrees(np.arccos(cosine)):.8f}"
        for axis, cosine in zip(("alpha", "beta", "gamma"), cosines, strict=True)
    ]
    names = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
    rows = [
        f"{symbol}{number} {symbol} {' '.join(f'{value:.8f}' for value in site.frac_coords)} {share:.6g}"
        for number, site in enumerate(crystal.sites, start=1)
        for symbol, share in site.species
    ]
    symmetry = ["_space_group_name_H-M_alt 'P 1'", "loop_", "_space_group_symop_operation_xyz", "'x, y, z'"]
    table = ["loop_", *(f"_atom_site_{column}" for column in names), *rows]
    return "\n".join([f"data_{block or 'crystal'}", *cell, *symmetry, *table, ""])


def band_to_poscars(band: Band) -> list[str]:
    """The band as one POSCAR per image, positions wrapped into the cell, the ion last."""
    return [_poscar(band, frac_coords) for frac_coords in band_images(band)]


def pack_files(files: Mapping[str, str]) -> bytes:
    """A zip of texts by their names; equal texts give equal bytes, since every entry has a fixed date."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, text)
    return packed.getvalue()


def band_images(band: Band) -> FloatArray:
    """All atoms of all images, the ion last, shape [n_images, n_atoms, 3], fractional."""
    hosts = band.relaxed_host_frac_coords
    if hosts is None:
        hosts = np.broadcast_to(band.host_frac_coords, (len(band.image_frac_coords), *band.host_frac_coords.shape))
    return np.concatenate([hosts, band.image_frac_coords[:, None, :]], axis=1)


def _poscar(band: Band, frac_coords: FloatArray) -> str:
    """One image, atoms grouped by element as VASP wants them, the ion last."""
    order = sorted(range(len(band.host_species)), key=lambda k: band.host_species[k])
    symbols = [band.host_species[k] for k in order] + [band.ion]
    groups: list[tuple[str, int]] = []
    for symbol in symbols:
        if groups and groups[-1][0] == symbol:
            groups[-1] = (symbol, groups[-1][1] + 1)
        else:
            groups.append((symbol, 1))
    wrapped = np.mod(frac_coords, 1.0)
    lines = [band.formula, "1.0"]
    lines += [" ".join(f"{value:20.12f}" for value in row) for row in band.lattice_angstrom]
    lines += [" ".join(symbol for symbol, _ in groups), " ".join(str(count) for _, count in groups), "Direct"]
    lines += [" ".join(f"{value:18.14f}" for value in wrapped[k]) for k in (*order, len(band.host_species))]
    return "\n".join(lines) + "\n"
