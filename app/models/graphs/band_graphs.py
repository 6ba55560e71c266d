"""From a band to graphs: atoms near the path, or the whole cell, with all of the ion's images or one end point."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Element

from app.crystals.band import Band, FloatArray, IntArray, model_band
from app.crystals.hops.surroundings import NearAtoms, fade, host_near_path
from app.models.graphs.crystal_graphs import crystal_graph
from app.models.graphs.shells import LEAST_WEIGHT, NEAR_REACH_ANGSTROM, AtomGraph, GraphSpec

#: How far each of the five images is from the middle of the path: 0 there, 1 at the end points.
IMAGE_POSITIONS = np.array([1.0, 0.5, 0.0, 0.5, 1.0], dtype=np.float32)

#: Which images of the ion a graph holds: all five, or one end point alone.
State = Literal["band", "initial", "final"]


def band_graph(band: Band, spec: GraphSpec, state: State = "band") -> AtomGraph:
    """Build the graph of a band: the host and some of the ion's images in it.

    Nodes are the images and every host atom within the outer distance of the straight path, each periodic copy a node
    of its own. Copies of the ion in neighbouring supercells are left out: they are an artefact of the supercell, not
    part of the hop. If the spec's scope is "cell", nodes are the cell's atoms instead, with periodic edges.
    """
    band = model_band(band)
    if spec.scope == "cell":
        return _cell_graph(band, spec, state)
    images = band.image_frac_coords @ band.lattice_angstrom
    host_numbers = np.array([Element(symbol).Z for symbol in band.host_species], dtype=np.int64)
    reach = min(NEAR_REACH_ANGSTROM, spec.reach_angstrom)
    while True:
        found = host_near_path(band, images, spec.outer_angstrom + reach)
        shells = _Shells.measure(found, images[_chosen(state)], spec, reach)
        if shells.complete or reach >= spec.reach_angstrom:
            break
        reach = spec.reach_angstrom
    return _assemble(
        near=found,
        host_numbers=host_numbers,
        ion_number=Element(band.ion).Z,
        image_position=IMAGE_POSITIONS[_chosen(state)],
        shells=shells,
        spec=spec,
    )


def _chosen(state: State) -> slice:
    return {"band": slice(None), "initial": slice(0, 1), "final": slice(-1, None)}[state]


def _cell_graph(band: Band, spec: GraphSpec, state: State) -> AtomGraph:
    positions = IMAGE_POSITIONS[_chosen(state)]
    images = band.image_frac_coords[_chosen(state)]
    graph = crystal_graph(
        band.lattice_angstrom,
        np.array([Element(symbol).Z for symbol in (*band.host_species, *[band.ion] * len(images))], dtype=np.int64),
        np.concatenate([band.host_frac_coords, images]),
        spec,
    )
    marked = graph.image_position.clone()
    marked[-len(images) :] = torch.from_numpy(positions)
    return replace(graph, image_position=marked)


@dataclass(frozen=True, kw_only=True)
class _Shells:
    """Distances from every node to every atom near the path, and the radius of each node's first shell.

    Nodes are the host atoms within the outer distance (in_graph), then the images.
    """

    in_graph: NDArray[np.bool_]
    distance: FloatArray  # [n_nodes, n_near + n_images]
    vector: FloatArray  # [n_nodes, n_near + n_images, 3], from the node
    radius: FloatArray  # [n_nodes]
    complete: bool

    @classmethod
    def measure(cls, near: NearAtoms, images: FloatArray, spec: GraphSpec, reach: float) -> "_Shells":
        """Measure the distances from each atom near the path, and from each image, to all atoms.

        Args:
            near: atoms near the path.
            images: of the ion, shape [n_images, 3], angstrom.
            spec: of the graph.
            reach: how far atoms were collected, angstrom; shells within it are complete.
        """
        in_graph = near.path_distance < spec.outer_angstrom
        everything = np.concatenate([near.positions, images])
        nodes = np.concatenate([near.positions[in_graph], images])
        vector = everything[None, :, :] - nodes[:, None, :]
        distance = np.sqrt(np.einsum("nmi,nmi->nm", vector, vector))
        distance[np.arange(len(nodes)), np.concatenate([np.flatnonzero(in_graph), np.arange(-len(images), 0)])] = np.inf
        # The ion is left out of all shells, so that a host atom's neighbourhood does not depend on the number of
        # images.
        to_host = distance[:, : len(near.positions)]
        rank = spec.neighbour_count - 1
        if to_host.shape[1] <= rank:
            radius = np.full(len(nodes), reach)
        else:
            radius = np.partition(to_host, rank, axis=1)[:, rank]
        complete = bool(np.all(radius + spec.shell_width_angstrom <= reach))
        return cls(
            in_graph=in_graph,
            distance=distance,
            vector=vector,
            radius=np.minimum(radius, spec.reach_angstrom),
            complete=complete,
        )


def _assemble(
    *,
    near: NearAtoms,
    host_numbers: IntArray,
    ion_number: int,
    image_position: NDArray[np.float32],
    shells: _Shells,
    spec: GraphSpec,
) -> AtomGraph:
    kept = np.concatenate([shells.in_graph, np.ones(len(image_position), dtype=bool)])
    distance = shells.distance[:, kept]
    excess = (distance - shells.radius[:, None]) / spec.shell_width_angstrom
    node_weight = np.concatenate(
        [
            fade(
                (near.path_distance[shells.in_graph] - spec.inner_angstrom)
                / (spec.outer_angstrom - spec.inner_angstrom)
            ),
            np.ones(len(image_position)),
        ]
    )
    weight = np.where(np.isfinite(excess), fade(excess), 0.0) * node_weight[None, :]
    target, source = np.nonzero(weight > LEAST_WEIGHT)
    incoming = np.bincount(target, minlength=len(node_weight))
    numbers = np.concatenate([host_numbers[near.host_index[shells.in_graph]], np.full(len(image_position), ion_number)])
    position = np.full(len(numbers), -1.0, dtype=np.float32)
    position[-len(image_position) :] = image_position
    return AtomGraph(
        atomic_numbers=torch.from_numpy(numbers),
        image_position=torch.from_numpy(position),
        node_weight=torch.from_numpy(node_weight.astype(np.float32)),
        edge_source=torch.from_numpy(source),
        edge_target=torch.from_numpy(target),
        edge_vector_angstrom=torch.from_numpy(shells.vector[:, kept][target, source].astype(np.float32)),
        edge_weight=torch.from_numpy(weight[target, source].astype(np.float32)),
        line_edge_count=int(incoming[source].sum()),
    )
