"""From a periodic crystal to its graph: every atom of the cell with its shells of neighbours."""

import numpy as np
import torch
from pymatgen.optimization.neighbors import find_points_in_spheres

from app.crystals.band import FloatArray, IntArray
from app.crystals.geometry.reduction import reduced_lattice
from app.crystals.hops.surroundings import fade
from app.models.graphs.shells import LEAST_WEIGHT, NEAR_REACH_ANGSTROM, AtomGraph, GraphSpec

_SELF_ANGSTROM = 1e-8
_PERIODIC = np.ones(3, dtype=np.int64)


def crystal_graph(
    lattice_angstrom: FloatArray, atomic_numbers: IntArray, frac_coords: FloatArray, spec: GraphSpec
) -> AtomGraph:
    """Build the graph of a crystal: nodes are the cell's atoms, with one edge for each periodic copy of a neighbour.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        atomic_numbers: shape [n_atoms].
        frac_coords: shape [n_atoms, 3].
        spec: the shells; its distances from a path are not used.
    """
    lattice, steps = reduced_lattice(lattice_angstrom)
    positions = (frac_coords @ np.linalg.inv(steps)) % 1.0 @ lattice
    reach = min(NEAR_REACH_ANGSTROM, spec.reach_angstrom)
    while True:
        # To where the shell has faded out, in case it ends at the reach itself.
        target, source, vector, distance = _neighbours(positions, lattice, reach + spec.shell_width_angstrom)
        radius = _shell_radius(target, distance, len(positions), spec.neighbour_count)
        if reach >= spec.reach_angstrom or bool(np.all(radius <= reach)):
            break
        reach = spec.reach_angstrom
    radius = np.minimum(radius, spec.reach_angstrom)
    weight = fade((distance - radius[target]) / spec.shell_width_angstrom)
    seen = weight > LEAST_WEIGHT
    target, source = target[seen], source[seen]
    incoming = np.bincount(target, minlength=len(positions))
    return AtomGraph(
        atomic_numbers=torch.from_numpy(np.asarray(atomic_numbers, dtype=np.int64)),
        image_position=torch.full((len(positions),), -1.0),
        node_weight=torch.ones(len(positions)),
        edge_source=torch.from_numpy(source),
        edge_target=torch.from_numpy(target),
        edge_vector_angstrom=torch.from_numpy(vector[seen].astype(np.float32)),
        edge_weight=torch.from_numpy(weight[seen].astype(np.float32)),
        line_edge_count=int(incoming[source].sum()),
    )


def _neighbours(
    positions: FloatArray, lattice: FloatArray, reach: float
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Target, source, vector from target to source and distance of all pairs within reach, sorted by target."""
    lattice = np.ascontiguousarray(lattice)
    positions = np.ascontiguousarray(positions)
    target, source, offset, distance = find_points_in_spheres(positions, positions, reach, _PERIODIC, lattice, 1e-8)
    others = distance > _SELF_ANGSTROM
    target, source, offset, distance = target[others], source[others], offset[others], distance[others]
    order = np.lexsort((source, target))
    target, source = target[order], source[order]
    vector = positions[source] + offset[order] @ lattice - positions[target]
    return target, source, vector, distance[order]


def _shell_radius(target: IntArray, distance: FloatArray, count: int, neighbours: int) -> FloatArray:
    """The distance of the last neighbour in the first shell of each atom; infinite where it has fewer, shape [n]."""
    order = np.lexsort((distance, target))
    first = np.searchsorted(target, np.arange(count + 1))
    last = first[:-1] + neighbours - 1
    has = last < first[1:]
    radius = np.full(count, np.inf)
    radius[has] = distance[order][last[has]]
    return radius
