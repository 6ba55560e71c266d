"""How barriers with errors percolate through sampled fillings: the point answer, and its distribution by sampling."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.crystals.hops.fillings import Fillings
from app.crystals.hops.networks import percolation_levels
from app.crystals.hops.percolation import (
    DIMENSIONS,
    Connection,
    HopEdge,
    PercolationBarriers,
    bottleneck_orbits,
    connections,
    directions_of,
)
from app.models.prediction import INTERVAL_COVERAGE, QUANTILE_LEVELS, Prediction
from app.serving.answers.types import FillingsAnswer, PercolationPath

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: How much of a barrier's error the hops of one crystal share: see docs/percolation.md for why and from what.
SHARED_ERROR = 0.5
SAMPLES = 400
#: Hops of many distinct kinds take longer to join, so fewer samples are drawn of them: this many joins at most.
MOST_JOINS = 400_000
LEAST_SAMPLES = 100
#: Samples where each is of a supercell with closed sites.
LEAST_SAMPLES_FILLED = 48
SEED = 7


@dataclass(frozen=True, kw_only=True, eq=False)
class _Network:
    """The hops that may be passable, of one cell or of a supercell with fillings.

    Attributes:
        sites: how many.
        hops: rows (from, to, offset x, y, z), shape [n_hops, 5].
        orbits: the distinct hop that each is a copy of, shape [n_hops].
        closed: of each hop in each filling, shape [n_fillings, n_hops]; a single row without fillings.
        repeats: cells of the supercell along each axis.
    """

    sites: int
    hops: IntArray
    orbits: IntArray
    closed: NDArray[np.bool_]
    repeats: tuple[int, int, int] = (1, 1, 1)

    def levels(self, barriers_ev: FloatArray, fillings: IntArray) -> FloatArray:
        """Percolation of sets of barriers, each in one filling, shape [n_sets, 3], eV; infinite where there is none."""
        weights = barriers_ev[:, self.orbits]
        weights[self.closed[fillings]] = np.inf
        return percolation_levels(self.sites, self.hops, weights)


@dataclass(frozen=True, kw_only=True, eq=False)
class Percolation:
    """How a crystal's hops percolate.

    Attributes:
        paths: by dimension; None where nothing connects in so many.
        fillings: how far the sampled fillings of its sites differ; None where there is nothing to fill.
    """

    paths: dict[int, PercolationPath | None]
    fillings: FillingsAnswer | None = None


def percolating(
    edges: Sequence[HopEdge],
    predictions: Sequence[Prediction | None],
    fillings: Fillings | None = None,
    open_shares: Sequence[float] | None = None,
) -> Percolation:
    """Find at which barriers hops connect in 1, 2 and 3 dimensions, through which hops, and how surely.

    With fillings the barrier is the median over them, one in which nothing connects counting as infinite.

    Args:
        edges: every undirected hop of the cell.
        predictions: of each distinct hop; None where it is not passable.
        fillings: of the sites; None where no atom of the host is ever on one and all hops are open everywhere.
        open_shares: of each distinct hop, in which share of the places it is free; needs fillings.
    """
    passable = [edge for edge in edges if edge.orbit < len(predictions) and predictions[edge.orbit] is not None]
    barriers = [None if one is None else one.barrier_ev for one in predictions]
    everywhere = connections(passable, barriers)
    shares = np.ones(len(predictions)) if open_shares is None else np.asarray(open_shares, dtype=np.float64)
    if fillings is None or not any(everywhere.values()):
        answer = None if fillings is None else _fillings_answer(np.full((len(fillings.closed), 3), np.inf))
        return _answered(everywhere, _cell(passable), predictions, answer)
    level = np.array([math.inf if one is None else one.barrier_ev for one in everywhere.values()])
    if not fillings.closed.any() and (shares[[edge.orbit for edge in passable]] == 1.0).all():
        answer = _fillings_answer(np.tile(level, (len(fillings.closed), 1)))
        return _answered(everywhere, _cell(passable), predictions, answer)
    network = _supercell(passable, fillings, shares)
    finite = np.array([np.inf if one is None else one for one in barriers])
    levels = network.levels(np.tile(finite, (len(fillings.closed), 1)), np.arange(len(fillings.closed)))
    if (levels == level).all():  # the closed sites are no obstacle, and need not be sampled again
        return _answered(everywhere, _cell(passable), predictions, _fillings_answer(levels))
    # the middle one, so that the barrier is that of a hop
    middle = np.argsort(levels, axis=0, kind="stable")[(len(levels) - 1) // 2]
    found = {
        dimension: _connection(network, finite, float(levels[filling, dimension - 1]), filling, dimension)
        for dimension, filling in zip(DIMENSIONS, map(int, middle), strict=True)
    }
    return _answered(found, network, predictions, _fillings_answer(levels))


def _answered(
    found: dict[int, Connection | None],
    network: _Network,
    predictions: Sequence[Prediction | None],
    fillings: FillingsAnswer | None,
) -> Percolation:
    if not any(found.values()):
        return Percolation(paths=dict.fromkeys(DIMENSIONS), fillings=fillings)
    sampled = _sampled(network, predictions)
    paths = {dimension: _path(one, sampled[:, dimension - 1]) for dimension, one in found.items()}
    return Percolation(paths=paths, fillings=fillings)


def _cell(edges: Sequence[HopEdge]) -> _Network:
    rows = np.array([(edge.from_site, edge.to_site, *edge.offset, edge.orbit) for edge in edges], dtype=np.int64)
    rows = rows.reshape(-1, 6)
    return _Network(
        sites=int(rows[:, :2].max(initial=-1)) + 1,
        hops=rows[:, :5],
        orbits=rows[:, 5],
        closed=np.zeros((1, len(rows)), dtype=bool),
    )


def _supercell(edges: Sequence[HopEdge], fillings: Fillings, open_shares: FloatArray) -> _Network:
    hops, which = fillings.hops(edges)
    orbits = np.array([edge.orbit for edge in edges], dtype=np.int64)[which]
    closed = fillings.closed[:, hops[:, 0]] | fillings.closed[:, hops[:, 1]]
    shares = open_shares[orbits]
    if (shares < 1.0).any():
        closed |= np.random.default_rng(SEED).random(closed.shape) >= shares
    return _Network(sites=fillings.closed.shape[1], hops=hops, orbits=orbits, closed=closed, repeats=fillings.repeats)


def _connection(
    network: _Network, barriers_ev: FloatArray, level_ev: float, filling: int, dimension: int
) -> Connection | None:
    """How hops connect in one filling, up to its barrier."""
    if np.isinf(level_ev):
        return None
    usable = ~network.closed[filling] & (barriers_ev[network.orbits] <= level_ev)
    hops = network.hops[usable].tolist()
    edges = [
        HopEdge(from_site=i, to_site=j, offset=(x, y, z), orbit=orbit)
        for (i, j, x, y, z), orbit in zip(hops, network.orbits[usable].tolist(), strict=True)
    ]
    return Connection(
        barrier_ev=level_ev,
        bottleneck_orbits=bottleneck_orbits(edges, barriers_ev.tolist(), level_ev, dimension),
        directions=directions_of(hops, dimension, repeats=network.repeats),
    )


def _fillings_answer(levels_ev: FloatArray) -> FillingsAnswer:
    percolate = np.isfinite(levels_ev)
    known = [levels_ev[rows, k] for k, rows in enumerate(percolate.T)]
    one, two, three = (None if not len(values) else float(values.mean()) for values in known)
    spreads = [None if not len(values) else float(values.std()) for values in known]
    shares = percolate.mean(axis=0)
    return FillingsAnswer(
        count=len(levels_ev),
        shares={dimension: float(share) for dimension, share in zip(DIMENSIONS, shares, strict=True)},
        mean_ev=PercolationBarriers(one_d=one, two_d=two, three_d=three),
        spread_ev=PercolationBarriers(one_d=spreads[0], two_d=spreads[1], three_d=spreads[2]),
    )


def _path(connection: Connection | None, sampled_ev: FloatArray) -> PercolationPath | None:
    if connection is None:
        return None
    quantiles = np.quantile(sampled_ev[np.isfinite(sampled_ev)], QUANTILE_LEVELS)
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


def _sampled(network: _Network, predictions: Sequence[Prediction | None]) -> FloatArray:
    """Percolation of barriers drawn from the hops' distributions, with errors that a crystal's hops share in part.

    A Gaussian copula with one correlation, SHARED_ERROR, joins the distributions that the quantiles give. Set k of
    barriers is in filling k, the fillings taking turns.

    Returns:
        shape [n_samples, 3], eV; infinite where nothing connects.
    """
    least = LEAST_SAMPLES if len(network.closed) == 1 else LEAST_SAMPLES_FILLED
    count = int(np.clip(MOST_JOINS // max(1, len(network.hops)), least, SAMPLES if len(network.closed) == 1 else least))
    drawn = _drawn(predictions, count)
    fillings = np.arange(count) % len(network.closed)
    # which hops are the bottlenecks depends on the barriers' order alone: equal orders are joined once
    order = np.argsort(drawn, axis=1, kind="stable")
    ranks = np.empty_like(drawn)
    np.put_along_axis(ranks, order, np.arange(drawn.shape[1], dtype=np.float64)[None], axis=1)
    distinct, first, which = np.unique(
        np.column_stack([fillings, order]), axis=0, return_index=True, return_inverse=True
    )
    levels = network.levels(ranks[first], distinct[:, 0].astype(np.int64))[which.ravel()]
    places = np.where(np.isfinite(levels), levels, 0).astype(np.int64)
    barriers = np.take_along_axis(np.take_along_axis(drawn, order, axis=1), places, axis=1)
    return np.where(np.isfinite(levels), barriers, np.inf)


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
