"""Distances in a periodic cell."""

import numpy as np

from app.crystals.band import Band, FloatArray
from app.crystals.geometry.periodic import shortest_vectors


def nearest_vectors(lattice_angstrom: FloatArray, vectors_angstrom: FloatArray) -> FloatArray:
    """The shortest periodic forms of vectors.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3].
        vectors_angstrom: shape [..., 3].
    """
    flat = vectors_angstrom.reshape(-1, 3)
    offsets = shortest_vectors(flat @ np.linalg.inv(lattice_angstrom), lattice_angstrom).offsets
    return np.asarray((flat + offsets @ lattice_angstrom).reshape(vectors_angstrom.shape))


def clearances_angstrom(band: Band) -> tuple[FloatArray, FloatArray]:
    """Distances of a straight path to each host atom.

    Returns:
        from the nearest image, and from the nearest point of the line between the end points, each shape
        [n_host], angstrom. For each image, only the nearest periodic copy of an atom is considered.
    """
    hop = band.hop_vector_angstrom
    images = (band.image_frac_coords - band.image_frac_coords[0]) @ band.lattice_angstrom
    vectors = (band.host_frac_coords[None] - band.image_frac_coords[:, None]) @ band.lattice_angstrom
    from_image = nearest_vectors(band.lattice_angstrom, vectors)
    from_start = images[:, None] + from_image
    along = np.clip(from_start @ hop / float(hop @ hop), 0.0, 1.0)
    from_line = from_start - along[..., None] * hop
    return np.linalg.norm(from_image, axis=-1).min(axis=0), np.linalg.norm(from_line, axis=-1).min(axis=0)
