"""Helpers: bands as files that users upload and the service itself never writes."""

from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from app.crystals.band import Band
from app.crystals.writers import band_images, band_to_poscars, pack_files


def band_to_poscar_zip(band: Band) -> bytes:
    """The band as the zip of an NEB folder, 00/POSCAR to NN/POSCAR, positions wrapped into the cell."""
    return pack_files({f"{number:02d}/POSCAR": text for number, text in enumerate(band_to_poscars(band))})


def band_to_cif_end_points(band: Band) -> tuple[str, str]:
    """The first and the last image as CIFs in P1."""
    images = band_images(band)
    lattice = Lattice(band.lattice_angstrom)
    first, last = (
        str(CifWriter(Structure(lattice, (*band.host_species, band.ion), frac_coords, to_unit_cell=True)))
        for frac_coords in (images[0], images[-1])
    )
    return first, last
