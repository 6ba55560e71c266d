"""Percolation of many weightings of one network of hops at once, on whole numbers and without tolerances.

The hops of a weighting that form its minimum spanning forest place every site of a part relative to the part's first
one. Each other hop closes a loop, and leads from the first site to itself (a loop without displacement) or to one of
its own copies: a period. A loop exists from the weight of its hop on, since no hop of the forest between its ends is
higher. So one forest a weighting suffices, whatever the level.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from app.crystals.band import FloatArray, IntArray

_DIMENSIONS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class _Forest:
    """The minimum spanning forests of all weightings as one graph.

    Attributes:
        first, second: sites that its hops join, shape [n].
        weights: of its hops, shape [n].
        loop_sites: a site of each loop with a period, shape [n_loops].
        loop_weights: from which on the loop exists, shape [n_loops].
        periods: of each such loop, shape [n_loops, 3].
        sites: of one weighting.
        weightings: how many.
    """

    first: IntArray
    second: IntArray
    weights: FloatArray
    loop_sites: IntArray
    loop_weights: FloatArray
    periods: IntArray
    sites: int
    weightings: int


def percolation_levels(site_count: int, hops: IntArray, weights: FloatArray) -> FloatArray:
    """The lowest weights up to which hops connect sites to their own copies along 1, 2 and 3 directions.

    Args:
        site_count: sites of the cell.
        hops: undirected, rows (from, to, offset x, y, z), shape [n_hops, 5].
        weights: of each hop in each weighting; infinite where it is closed, shape [n_weightings, n_hops].

    Returns:
        infinite where nothing connects in so many dimensions, shape [n_weightings, 3].
    """
    levels = np.full((len(weights), _DIMENSIONS), np.inf)
    if not np.isfinite(weights).any():
        return levels
    forest = _forest(site_count, hops, weights)
    steps = np.unique(weights[np.isfinite(weights)])
    at_most = _dimensions(forest, np.full(len(weights), np.inf))
    for dimension in range(1, _DIMENSIONS + 1):
        # bisection: up to step `below` a weighting percolates in too few dimensions, up to step `reached` in enough
        below = np.full(len(weights), -1)
        reached = np.where(at_most >= dimension, len(steps) - 1, -1)
        while (reached - below > 1).any():
            middle = np.maximum((below + reached) // 2, 0)
            enough = _dimensions(forest, steps[middle]) >= dimension
            open_still = reached - below > 1
            reached = np.where(open_still & enough, middle, reached)
            below = np.where(open_still & ~enough, middle, below)
        levels[:, dimension - 1] = np.where(at_most >= dimension, steps[reached], np.inf)
    return levels


def _forest(site_count: int, hops: IntArray, weights: FloatArray) -> _Forest:
    count = len(weights)
    which, hop = np.nonzero(np.isfinite(weights))
    first = which * site_count + hops[hop, 0]
    second = which * site_count + hops[hop, 1]
    offsets, heights = hops[hop, 2:], weights[which, hop]
    nodes = count * site_count
    # of several hops between two sites the lowest is a candidate; ranks, since a weight of zero is no edge to scipy
    order = np.argsort(heights, kind="stable")
    low, high = np.minimum(first, second), np.maximum(first, second)
    _, lowest = np.unique((low * nodes + high)[order], return_index=True)
    candidates = np.sort(order[lowest])
    candidates = candidates[first[candidates] != second[candidates]]
    places = np.empty(len(order))
    places[order] = np.arange(1, len(order) + 1)
    graph = csr_array((places[candidates], (first[candidates], second[candidates])), shape=(nodes, nodes))
    tree = minimum_spanning_tree(graph).tocoo()
    in_tree = order[tree.data.astype(np.int64) - 1]
    positions = _positions(nodes, first[in_tree], second[in_tree], offsets[in_tree])
    periods = positions[first] + offsets - positions[second]
    loops = periods.any(axis=1)
    return _Forest(
        first=first[in_tree],
        second=second[in_tree],
        weights=heights[in_tree],
        loop_sites=first[loops],
        loop_weights=heights[loops],
        periods=periods[loops],
        sites=site_count,
        weightings=count,
    )


def _positions(nodes: int, first: IntArray, second: IntArray, offsets: IntArray) -> IntArray:
    """The cell of every site relative to the first site of its part, along the forest, shape [nodes, 3]."""
    _, labels = connected_components(_graph(nodes, first, second), directed=False)
    _, roots = np.unique(labels, return_index=True)
    # one more node joins all parts, so that one search visits every site
    graph = _graph(nodes + 1, np.append(first, np.full(len(roots), nodes)), np.append(second, roots))
    _, before = breadth_first_order(graph, nodes, directed=False, return_predecessors=True)
    before = before[:nodes].astype(np.int64)
    steps = np.zeros((nodes + 1, 3), dtype=np.int64)
    onward = before[second] == first
    steps[second[onward]] = offsets[onward]
    steps[first[~onward]] = -offsets[~onward]
    before = np.append(before, nodes)
    # each round doubles how far back a site's step reaches
    while (before[:nodes] != nodes).any():
        steps += steps[before]
        before = before[before]
    return steps[:nodes]


def _graph(nodes: int, first: IntArray, second: IntArray) -> csr_array:
    return csr_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(nodes, nodes))


def _dimensions(forest: _Forest, levels: FloatArray) -> IntArray:
    """The largest number of dimensions that a part of each weighting has up to its level, shape [n_weightings]."""
    up_to = forest.weights <= levels[forest.first // forest.sites]
    nodes = forest.sites * forest.weightings
    count, labels = connected_components(_graph(nodes, forest.first[up_to], forest.second[up_to]), directed=False)
    up_to = forest.loop_weights <= levels[forest.loop_sites // forest.sites]
    part, periods = labels[forest.loop_sites[up_to]], forest.periods[up_to]
    x, y, z = periods.T
    # the sum of the outer products of whole numbers has the rank of the lattice that they span
    xx, yy, zz, yz, zx, xy = (
        np.bincount(part, weights=product, minlength=count) for product in (x * x, y * y, z * z, y * z, z * x, x * y)
    )
    trace = xx + yy + zz
    minors = xx * yy - xy * xy + yy * zz - yz * yz + zz * xx - zx * zx
    determinant = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * zx) + zx * (xy * yz - yy * zx)
    ranks = (trace > 0).astype(np.int64) + (minors > 0) + (determinant > 0)
    weighting = np.empty(count, dtype=np.int64)
    weighting[labels] = np.arange(nodes) // forest.sites
    found = np.zeros(forest.weightings, dtype=np.int64)
    np.maximum.at(found, weighting, ranks)
    return found
