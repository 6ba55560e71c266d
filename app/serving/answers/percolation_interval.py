"""How barriers with errors percolate: the point answer, and its distribution by sampling."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.crystals.hops.percolation import DIMENSIONS, Connection, HopEdge, PercolationBarriers, connections, percolation
from app.models.prediction import INTERVAL_COVERAGE, QUANTILE_LEVELS, Prediction
from app.serving.answers.types import PercolationPath

FloatArray = NDArray[np.float64]

#: How much of a barrier's error the hops of one crystal share: see docs/percolation.md for why and from what.
SHARED_ERROR = 0.5
SAMPLES = 400
#: Hops of many distinct kinds take longer to join, so fewer samples are drawn of them: this many joins at most.
MOST_JOINS = 400_000
LEAST_SAMPLES = 100
SEED = 7


def percolating(
    edges: Sequence[HopEdge], predictions: Sequence[Prediction | None]
) -> dict[int, PercolationPath | None]:
    """Find at which barriers hops connect in 1, 2 and 3 dimensions, through which hops, and how surely.

    Args:
        edges: every undirected hop of the cell.
        predictions: of each distinct hop; None where it is not passable.

    Returns:
        by dimension; None where nothing connects in so many.
    """
    found = connections(edges, [None if one is None else one.barrier_ev for one in predictions])
    if not any(found.values()):
        return dict.fromkeys(DIMENSIONS)
    sampled = _sampled(edges, predictions)
    return {dimension: _path(connection, sampled, dimension) for dimension, connection in found.items()}


def _path(
    connection: Connection | None, sampled: Sequence[PercolationBarriers], dimension: int
) -> PercolationPath | None:
    if connection is None:
        return None
    # which hops connect does not depend on how high they are: no sample is without a barrier here
    barriers = [barrier for one in sampled if (barrier := one.of(dimension)) is not None]
    quantiles = np.quantile(barriers, QUANTILE_LEVELS)
    # where many paths compete the best of them is likely lower than the best guess; the interval still holds that
    levels = np.array(QUANTILE_LEVELS)
    tail = (1.0 - INTERVAL_COVERAGE) / 2.0 + 1e-9
    quantiles = np.where(levels <= tail, np.minimum(quantiles, connection.barrier_ev), quantiles)
    quantiles = np.where(levels >= 1.0 - tail, np.maximum(quantiles, connection.barrier_ev), quantiles)
    return PercolationPath(
        barrier_ev=connection.barrier_ev,
        quantiles_ev=tuple(float(value) for value in quantiles),
        bottleneck_hops=connection.bottleneck_orbits,
        directions=connection.directions,
    )


def _sampled(edges: Sequence[HopEdge], predictions: Sequence[Prediction | None]) -> list[PercolationBarriers]:
    """Percolation of barriers drawn from the hops' distributions, with errors that a crystal's hops share in part.

    A Gaussian copula with one correlation, SHARED_ERROR, joins the distributions that the quantiles give.
    """
    count = int(np.clip(MOST_JOINS // max(1, len(edges)), LEAST_SAMPLES, SAMPLES))
    drawn = _drawn(predictions, count)
    known: dict[tuple[int, ...], PercolationBarriers] = {}
    found = []
    for row in drawn:
        # which hops are the bottlenecks depends on the barriers' order alone
        order = tuple(int(k) for k in np.argsort(row, kind="stable"))
        if order not in known:
            ranks = np.empty(len(order))
            ranks[list(order)] = np.arange(len(order))
            known[order] = percolation(
                edges, [None if one is None else float(r) for one, r in zip(predictions, ranks, strict=True)]
            )
        ranked = known[order]
        found.append(
            PercolationBarriers(
                one_d=_barrier(ranked.one_d, order, row),
                two_d=_barrier(ranked.two_d, order, row),
                three_d=_barrier(ranked.three_d, order, row),
            )
        )
    return found


def _barrier(rank: float | None, order: tuple[int, ...], row: FloatArray) -> float | None:
    return None if rank is None else float(row[order[int(rank)]])


def _drawn(predictions: Sequence[Prediction | None], count: int) -> FloatArray:
    """Barriers of every distinct hop, shape [count, n_hops], eV; that of a hop without prediction is of no meaning."""
    generator = np.random.default_rng(SEED)
    shared = generator.standard_normal((count, 1))
    own = generator.standard_normal((count, len(predictions)))
    normal = np.sqrt(SHARED_ERROR) * shared + np.sqrt(1.0 - SHARED_ERROR) * own
    # by rank, so that each hop's samples are spread evenly over its own distribution however few they are
    levels = (np.argsort(np.argsort(normal, axis=0), axis=0) + 0.5) / count
    columns = [
        np.full(count, np.inf) if one is None else np.interp(levels[:, k], QUANTILE_LEVELS, one.quantiles_ev)
        for k, one in enumerate(predictions)
    ]
    return np.column_stack(columns)
