"""Percolation: the barrier up to which hops connect through the crystal in one, two or three dimensions."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Offset = tuple[int, int, int]

DIMENSIONS = (1, 2, 3)
#: Largest component of a direction that is searched.
_FARTHEST = 4


@dataclass(frozen=True, kw_only=True)
class HopEdge:
    """One undirected hop of the uploaded cell.

    Attributes:
        from_site: index of the ion's site where it starts.
        to_site: index of the site where it ends.
        offset: whole cells between the two, so that the end lies at the site's coordinates plus the offset.
        orbit: index of the symmetry-distinct hop that it is a copy of.
    """

    from_site: int
    to_site: int
    offset: Offset
    orbit: int


@dataclass(frozen=True, kw_only=True)
class PercolationBarriers:
    """The lowest barriers that connect in one, two and three dimensions, eV; None where nothing connects."""

    one_d: float | None
    two_d: float | None
    three_d: float | None

    def of(self, dimension: int) -> float | None:
        """The barrier for a number of dimensions."""
        return (self.one_d, self.two_d, self.three_d)[dimension - 1]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How hops connect a site to its own periodic copies in a number of dimensions.

    Attributes:
        barrier_ev: the lowest barrier up to which they do.
        bottleneck_orbits: the distinct hops of that barrier that are needed to connect; where several of equal barrier
            can replace each other, all of these.
        directions: independent directions along which a connected part reaches its own copies, integers in the uploaded
            cell's vectors without a common divisor; of several such parts, those of each.
    """

    barrier_ev: float
    bottleneck_orbits: tuple[int, ...]
    directions: tuple[Offset, ...]


@dataclass
class _Network:
    """A connected part of the quotient graph.

    Attributes:
        members: sites, and the cell of each relative to the part's origin.
        periods: independent translations that lead from a site to its own copies, as many as its dimension.
    """

    members: dict[int, Offset]
    periods: list[Offset] = field(default_factory=list)


def percolation(edges: Iterable[HopEdge], barriers_ev: Sequence[float | None]) -> PercolationBarriers:
    """Find the lowest barriers up to which hops connect a site to its own copies along 1, 2, 3 directions.

    Exact: hops join sites of the infinite crystal, each a site of the cell and an integer offset, and the translations
    along which a part meets itself form a lattice, whose rank is the part's dimension.

    Args:
        edges: every undirected hop of the cell.
        barriers_ev: the barrier of each orbit, eV; hops of an orbit with None or past the end are left out.
    """
    reached: dict[int, float] = {}
    networks: dict[int, _Network] = {}
    for barrier, edge in sorted(_passable(edges, barriers_ev), key=lambda item: item[0]):
        dimension = len(_join(networks, edge).periods)
        for lower in range(len(reached) + 1, dimension + 1):
            reached[lower] = barrier
        if len(reached) == len(DIMENSIONS):
            break
    return PercolationBarriers(one_d=reached.get(1), two_d=reached.get(2), three_d=reached.get(3))


def connections(edges: Sequence[HopEdge], barriers_ev: Sequence[float | None]) -> dict[int, Connection | None]:
    """Find how hops connect in 1, 2 and 3 dimensions: the barriers of `percolation`, their bottlenecks and directions.

    Args:
        edges: every undirected hop of the cell.
        barriers_ev: the barrier of each orbit, eV; hops of an orbit with None or past the end are left out.

    Returns:
        by dimension; None where the hops do not connect in that many.
    """
    passable = _passable(edges, barriers_ev)
    barriers = percolation(edges, barriers_ev)
    return {
        dimension: None if (barrier := barriers.of(dimension)) is None else _connection(passable, barrier, dimension)
        for dimension in DIMENSIONS
    }


def bottleneck_orbits(
    edges: Sequence[HopEdge], barriers_ev: Sequence[float], barrier_ev: float, dimension: int
) -> tuple[int, ...]:
    """Find the distinct hops of a barrier without which hops up to it do not connect, as of `Connection`.

    Args:
        edges: the hops up to that barrier, of a cell or of a supercell.
        barriers_ev: the barrier of each orbit, eV.
        barrier_ev: the barrier, which is that of the highest of the hops.
        dimension: 1, 2 or 3.
    """
    up_to = [(barriers_ev[edge.orbit], edge) for edge in edges]
    return _bottlenecks(up_to, _connecting(up_to, dimension), barrier_ev, dimension)


def directions_of(
    hops: Iterable[Sequence[int]], dimension: int, *, repeats: tuple[int, int, int] = (1, 1, 1)
) -> tuple[Offset, ...]:
    """The directions along which connected parts of at least so many dimensions reach their own copies.

    Args:
        hops: rows (from, to, offset x, y, z) of a supercell.
        dimension: 1, 2 or 3.
        repeats: cells of the supercell along each axis; the directions are in vectors of the cell.
    """
    edges = [HopEdge(from_site=i, to_site=j, offset=(a, b, c), orbit=0) for i, j, a, b, c in hops]
    a, b, c = repeats
    found: dict[Offset, None] = {}
    for part in _connecting([(0.0, edge) for edge in edges], dimension):
        found |= dict.fromkeys(_directions([(a * x, b * y, c * z) for x, y, z in part.periods]))
    return tuple(sorted(found, key=_by_length))


def _passable(edges: Iterable[HopEdge], barriers_ev: Sequence[float | None]) -> list[tuple[float, HopEdge]]:
    return [
        (barrier, edge)
        for edge in edges
        if edge.orbit < len(barriers_ev) and (barrier := barriers_ev[edge.orbit]) is not None
    ]


def _connection(passable: list[tuple[float, HopEdge]], barrier_ev: float, dimension: int) -> Connection:
    up_to = [(barrier, edge) for barrier, edge in passable if barrier <= barrier_ev]
    parts = _connecting(up_to, dimension)
    directions = dict.fromkeys(direction for part in parts for direction in _directions(part.periods))
    return Connection(
        barrier_ev=barrier_ev,
        bottleneck_orbits=_bottlenecks(up_to, parts, barrier_ev, dimension),
        directions=tuple(sorted(directions, key=_by_length)),
    )


def _bottlenecks(
    up_to: list[tuple[float, HopEdge]], parts: list[_Network], barrier_ev: float, dimension: int
) -> tuple[int, ...]:
    """The orbits of the highest hops of connecting parts that are needed; where none alone is, all of these."""
    inside = {site for part in parts for site in part.members}
    highest = {edge.orbit for barrier, edge in up_to if barrier == barrier_ev and edge.from_site in inside}
    needed = {
        orbit for orbit in highest if not _connecting([item for item in up_to if item[1].orbit != orbit], dimension)
    }
    return tuple(sorted(needed or highest))


def _connecting(items: list[tuple[float, HopEdge]], dimension: int) -> list[_Network]:
    """The connected parts of at least a number of dimensions."""
    networks: dict[int, _Network] = {}
    for _, edge in items:
        _join(networks, edge)
    parts = {id(network): network for network in networks.values()}
    return [network for network in parts.values() if len(network.periods) >= dimension]


def _directions(periods: Sequence[Offset]) -> list[Offset]:
    """The shortest independent directions that span the same line, plane or space as the periods."""
    rank = len(periods)
    if rank == len(DIMENSIONS):
        return [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    if rank == 1:
        return [_reduced(periods[0])]
    normal = _cross(periods[0], periods[1])
    span = range(-_FARTHEST, _FARTHEST + 1)
    in_plane = [_reduced(step) for step in itertools.product(span, span, span) if any(step) and not _dot(step, normal)]
    found: list[Offset] = []
    for step in sorted({*in_plane, *map(_reduced, periods)}, key=_by_length):
        _extend(found, step)
    return found


def _reduced(period: Offset) -> Offset:
    """Divide by the common divisor and make the first nonzero number positive."""
    sign = 1 if next(value for value in period if value) > 0 else -1
    divisor = sign * math.gcd(*period)
    return period[0] // divisor, period[1] // divisor, period[2] // divisor


def _by_length(direction: Offset) -> tuple[int, Offset]:
    """A sort key: short directions first, and of equal ones along a before b before c."""
    return _dot(direction, direction), _minus((0, 0, 0), direction)


def _join(networks: dict[int, _Network], edge: HopEdge) -> _Network:
    """Add a hop: either two parts merge, or a part gains a path from a site to its own copy."""
    first = networks.setdefault(edge.from_site, _Network({edge.from_site: (0, 0, 0)}))
    second = networks.setdefault(edge.to_site, _Network({edge.to_site: (0, 0, 0)}))
    # the second part's origin relative to the first's, along the hop
    shift = _minus(_plus(first.members[edge.from_site], edge.offset), second.members[edge.to_site])
    if first is second:
        _extend(first.periods, shift)
        return first
    if len(first.members) < len(second.members):
        first, second, shift = second, first, _minus((0, 0, 0), shift)
    for site, position in second.members.items():
        first.members[site] = _plus(position, shift)
        networks[site] = first
    for period in second.periods:
        _extend(first.periods, period)
    return first


def _extend(periods: list[Offset], period: Offset) -> None:
    """Add a period if it is independent of the known ones: integers, so no tolerance."""
    rank = len(periods)
    independent = (
        (rank == 0 and any(period))
        or (rank == 1 and any(_cross(periods[0], period)))
        or (rank == 2 and _dot(_cross(periods[0], periods[1]), period) != 0)  # noqa: PLR2004 # two dimensions
    )
    if independent:
        periods.append(period)


def _plus(a: Offset, b: Offset) -> Offset:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _minus(a: Offset, b: Offset) -> Offset:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _cross(a: Offset, b: Offset) -> Offset:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _dot(a: Offset, b: Offset) -> int:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
