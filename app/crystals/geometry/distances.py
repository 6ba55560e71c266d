"""Distances in a periodic cell."""

import numpy as np

from app.crystals.band import Band, FloatArray
from app.crystals.geometry.periodic import near_pairs, shortest_vectors


def nearest_vectors(lattice_angstrom: FloatArray, vectors_angstrom: FloatArray) -> FloatArray:
    """The shortest periodic forms of vectors.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3].
        vectors_angstrom: shape [..., 3].
    """
    flat = vectors_angstrom.reshape(-1, 3)
    offsets = shortest_vectors(flat @ np.linalg.inv(lattice_angstrom), lattice_angstrom).offsets
    return np.asarray((flat + offsets @ lattice_angstrom).reshape(vectors_angstrom.shape))


def clearances_angstrom(band: Band, within_angstrom: float) -> tuple[FloatArray, FloatArray]:
    """Distances of a straight path to the host atoms near it.

    Args:
        band: of the path.
        within_angstrom: the largest distance from the line that counts.

    Returns:
        from the nearest image, and from the nearest point of the line between the end points, each shape
        [n_host], angstrom; infinite for an atom that is farther from the line and from all images. For each image, only
        the nearest periodic copy of an atom is considered.
    """
    images, lattice, hop = band.image_frac_coords, band.lattice_angstrom, band.hop_vector_angstrom
    # the nearest image of a point on the line is half a step away at most
    reach = float(np.hypot(within_angstrom, 0.5 * np.linalg.norm(hop) / (len(images) - 1)))
    pairs, lengths = near_pairs(images, band.host_frac_coords, lattice, reach)
    from_images, from_line = (np.full(len(band.host_species), np.inf) for _ in range(2))
    if not len(pairs):
        return from_images, from_line
    image, atom = pairs.T
    vectors = nearest_vectors(lattice, (band.host_frac_coords[atom] - images[image]) @ lattice)
    from_start = (images[image] - images[0]) @ lattice + vectors
    along = np.clip(from_start @ hop / float(hop @ hop), 0.0, 1.0)
    np.minimum.at(from_images, atom, lengths)
    np.minimum.at(from_line, atom, np.linalg.norm(from_start - along[:, None] * hop, axis=1))
    return from_images, from_line
