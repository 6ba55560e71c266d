"""The band: a host crystal and the ordered positions of one ion that hops through it."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MODEL_IMAGE_COUNT = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """A host and an ordered row of images of the migrating ion, as it was uploaded.

    Attributes:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        host_species: element symbols of every atom but the migrating one, length n_host.
        host_frac_coords: fractional coordinates of the first image's host, shape [n_host, 3].
        ion: element symbol of the migrating ion.
        image_frac_coords: fractional coordinates of the ion, shape [n_images, 3], n_images >= 2, unwrapped:
            each image continues from the one before, so components may lie outside 0..1.
        relaxed_host_frac_coords: the host of each image where they differ, shape [n_images, n_host, 3], in the
            atom order of host_species; None where all images share the host of the first.
    """

    lattice_angstrom: FloatArray
    host_species: tuple[str, ...]
    host_frac_coords: FloatArray
    ion: str
    image_frac_coords: FloatArray
    relaxed_host_frac_coords: FloatArray | None = None

    @property
    def atom_count(self) -> int:
        """Atoms of one image: the host's and the ion."""
        return len(self.host_species) + 1

    @property
    def hop_vector_angstrom(self) -> FloatArray:
        """From the first image to the last, shape [3], angstrom."""
        return np.asarray((self.image_frac_coords[-1] - self.image_frac_coords[0]) @ self.lattice_angstrom)

    @property
    def hop_distance_angstrom(self) -> float:
        """The straight distance between the end points, angstrom."""
        return float(np.linalg.norm(self.hop_vector_angstrom))

    @property
    def formula(self) -> str:
        """The formula of one image with the elements in alphabetical order, such as "Fe4 Li4 O16 P4"."""
        counts = Counter(self.host_species)
        counts[self.ion] += 1
        return " ".join(f"{symbol}{counts[symbol]}" for symbol in sorted(counts))


def model_band(band: Band) -> Band:
    """The band that models are trained on and applied to: five equally spaced images on the straight line.

    The end points are the uploaded ones and the host is that of the first image, unrelaxed, so three, five or
    nine straight images of one hop give the same band.
    """
    steps = np.linspace(0.0, 1.0, MODEL_IMAGE_COUNT)[:, None]
    first, last = band.image_frac_coords[0], band.image_frac_coords[-1]
    return replace(band, image_frac_coords=first + steps * (last - first), relaxed_host_frac_coords=None)
