"""Every copy of each distinct hop, so that the whole network can be drawn or searched without symmetry."""

from collections.abc import Sequence
from dataclasses import replace

from app.crystals.percolation import HopEdge
from app.serving.answers import CrystalAnswer


def with_copies(crystal: CrystalAnswer, edges: Sequence[HopEdge]) -> CrystalAnswer:
    """Add to each hop of an answer the undirected hops of the uploaded cell that symmetry makes equal to it.

    Args:
        crystal: the answer.
        edges: every undirected hop of the uploaded cell; `orbit` is the index in the answer's hops, or past its end.
    """
    copies: list[list[tuple[int, int, int, int, int]]] = [[] for _ in crystal.hops]
    for edge in edges:
        if edge.orbit < len(copies):
            copies[edge.orbit].append((edge.from_site, edge.to_site, *edge.offset))
    hops = (replace(hop, copies=tuple(own)) for hop, own in zip(crystal.hops, copies, strict=True))
    return replace(crystal, hops=tuple(hops))
