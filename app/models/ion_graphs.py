"""From a band to what two layers of a potential need to describe its ion: the ion's bonds and their neighbourhoods."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from app.crystals.band import MODEL_IMAGE_COUNT, Band, FloatArray, IntArray
from app.crystals.surroundings import path_surroundings
from app.models.features.tables import atomic_number
from app.models.networks.chgnet import ATOM_CUTOFF_ANGSTROM, BOND_CUTOFF_ANGSTROM

#: An atom that the line runs through is kept at this distance, so that its Bessel functions stay finite.
SAME_PLACE_ANGSTROM = 0.3
_ROUNDING_ANGSTROM = 1e-6


@dataclass(frozen=True, kw_only=True)
class IonGraph:
    """The ion's images and the host atoms around them; several bands may lie side by side.

    The host is infinite and holds one moving ion; for its copies see path_surroundings.

    Attributes:
        ion_numbers: atomic number of the ion, once for every image, shape [n_images].
        host_numbers: of the atoms within six angstrom of a path, shape [n_host].
        source_numbers: of the atoms that these are bound to, shape [n_source].
        host_target, host_source: bonds among them, from a host atom to a source, shape [n_bonds].
        host_vector: along each, shape [n_bonds, 3], angstrom.
        ion_image, ion_host: the ion's bonds at every image, shape [n_ion_bonds].
        ion_vector: from the ion to the host atom, shape [n_ion_bonds, 3], angstrom.
        short_ion: which of the ion's bonds are short, shape [n_short_ion].
        short_host: which of the hosts' bonds are short and meet a short one of the ion's, shape [n_short_host].
        at_ion_one, at_ion_other: pairs of the ion's short bonds, as places in short_ion, shape [n_at_ion].
        at_host_one, at_host_other: a short bond of the ion and one of its host atom, as places in short_ion and
            short_host, shape [n_at_host].
    """

    ion_numbers: torch.Tensor
    host_numbers: torch.Tensor
    source_numbers: torch.Tensor
    host_target: torch.Tensor
    host_source: torch.Tensor
    host_vector: torch.Tensor
    ion_image: torch.Tensor
    ion_host: torch.Tensor
    ion_vector: torch.Tensor
    short_ion: torch.Tensor
    short_host: torch.Tensor
    at_ion_one: torch.Tensor
    at_ion_other: torch.Tensor
    at_host_one: torch.Tensor
    at_host_other: torch.Tensor

    @property
    def cost(self) -> int:
        """What a forward pass costs, in bonds and pairs."""
        return len(self.host_target) + len(self.ion_image) + len(self.at_ion_one) + len(self.at_host_one)

    def to(self, device: torch.device) -> "IonGraph":
        """The same graph on another device."""
        moved: dict[str, Any] = {
            field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)
        }
        return IonGraph(**moved)


#: Which list each index field counts in, to put graphs side by side.
_COUNTED_IN = {
    "host_target": "host_numbers",
    "host_source": "source_numbers",
    "ion_image": "ion_numbers",
    "ion_host": "host_numbers",
    "short_ion": "ion_image",
    "short_host": "host_target",
    "at_ion_one": "short_ion",
    "at_ion_other": "short_ion",
    "at_host_one": "short_ion",
    "at_host_other": "short_host",
}


def ion_graph(band: Band) -> IonGraph:
    """Builds the graph of a band's five straight images."""
    around = path_surroundings(band, 2 * ATOM_CUTOFF_ANGSTROM)
    band, images, near = around.band, around.images, around.near
    numbers = np.array([atomic_number(symbol) for symbol in band.host_species], dtype=np.int64)[near.host_index]
    host = np.flatnonzero(near.path_distance < ATOM_CUTOFF_ANGSTROM)
    target, source, host_vector = _bonds(near.positions[host], near.positions)
    itself = host[target] == source
    target, source, host_vector = target[~itself], source[~itself], host_vector[~itself]
    image, neighbour, ion_vector = _bonds(images, near.positions[host])
    short_ion = np.flatnonzero(np.linalg.norm(ion_vector, axis=1) < BOND_CUTOFF_ANGSTROM)
    meets_ion = np.zeros(len(host), dtype=bool)
    meets_ion[neighbour[short_ion]] = True
    short_host = np.flatnonzero(meets_ion[target])
    short_host = short_host[np.linalg.norm(host_vector[short_host], axis=1) < BOND_CUTOFF_ANGSTROM]
    at_ion = _meeting(image[short_ion], image[short_ion], MODEL_IMAGE_COUNT)
    at_ion = at_ion[:, at_ion[0] != at_ion[1]]
    at_host = _meeting(neighbour[short_ion], target[short_host], len(host))
    return IonGraph(
        ion_numbers=torch.full((MODEL_IMAGE_COUNT,), atomic_number(band.ion)),
        host_numbers=torch.from_numpy(numbers[host]),
        source_numbers=torch.from_numpy(numbers),
        host_target=torch.from_numpy(target),
        host_source=torch.from_numpy(source),
        host_vector=torch.from_numpy(host_vector.astype(np.float32)),
        ion_image=torch.from_numpy(image),
        ion_host=torch.from_numpy(neighbour),
        ion_vector=torch.from_numpy(ion_vector.astype(np.float32)),
        short_ion=torch.from_numpy(short_ion),
        short_host=torch.from_numpy(short_host),
        at_ion_one=torch.from_numpy(at_ion[0]),
        at_ion_other=torch.from_numpy(at_ion[1]),
        at_host_one=torch.from_numpy(at_host[0]),
        at_host_other=torch.from_numpy(at_host[1]),
    )


def join_ion_graphs(graphs: Sequence[IonGraph]) -> IonGraph:
    """Puts graphs side by side."""
    joined: dict[str, torch.Tensor] = {}
    for field in fields(IonGraph):
        parts = [getattr(graph, field.name) for graph in graphs]
        if counted := _COUNTED_IN.get(field.name):
            offsets = np.cumsum([0, *(len(getattr(graph, counted)) for graph in graphs[:-1])])
            parts = [part + int(offset) for part, offset in zip(parts, offsets, strict=True)]
        joined[field.name] = torch.cat(parts)
    return IonGraph(**joined)


def _bonds(centres: FloatArray, others: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Pairs within the cutoff, centre by centre, and the vectors between them."""
    # A path's surroundings are some hundred atoms by a thousand: every distance is sooner had than a search tree.
    middle = centres.sum(axis=0) / max(1, len(centres))
    one, two = centres - middle, others - middle
    squared = np.einsum("ci,ci->c", one, one)[:, None] + np.einsum("oi,oi->o", two, two) - 2.0 * one @ two.T
    centre, other = np.nonzero(squared < (ATOM_CUTOFF_ANGSTROM + _ROUNDING_ANGSTROM) ** 2)
    vector = others[other] - centres[centre]
    length = np.linalg.norm(vector, axis=1)
    near = length <= ATOM_CUTOFF_ANGSTROM
    centre, other, vector, length = centre[near], other[near], vector[near], length[near]
    # Too close to have a direction: moved apart along the first axis, which only an impossible band needs.
    vector[length < SAME_PLACE_ANGSTROM] = (SAME_PLACE_ANGSTROM, 0.0, 0.0)
    return centre, other, vector


def _meeting(one: IntArray, other: IntArray, count: int) -> IntArray:
    """Every pair of places in two lists that hold the same number below count, shape [2, n_pairs]."""
    order = np.argsort(other, kind="stable")
    mates = np.bincount(other, minlength=count)
    begin = np.cumsum(mates) - mates
    repeats = mates[one]
    first = np.repeat(np.arange(len(one)), repeats)
    place = np.arange(len(first)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return np.stack([first, order[begin[one[first]] + place]])
