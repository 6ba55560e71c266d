"""The barrier at which hops join into paths through the whole crystal, in one, two or three dimensions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Offset = tuple[int, int, int]


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


@dataclass
class _Network:
    """A connected part of the quotient graph.

    Attributes:
        members: sites and how many cells each lies from the part's own origin.
        periods: independent translations that lead from a site to its own copies, as many as its dimension.
    """

    members: dict[int, Offset]
    periods: list[Offset] = field(default_factory=list)


def percolation(edges: Iterable[HopEdge], barriers_ev: Sequence[float | None]) -> PercolationBarriers:
    """Find the lowest barriers up to which hops connect a site to its own copies along 1, 2, 3 directions.

    Exact: hops join sites of the infinite crystal, each a site of the cell and whole-number offsets, and the
    translations along which a part meets itself form a lattice, whose rank is the part's dimension.

    Args:
        edges: every undirected hop of the cell.
        barriers_ev: the barrier of each orbit, eV; hops of an orbit with None or past the end are left out.
    """
    passable = [
        (barrier, edge)
        for edge in edges
        if edge.orbit < len(barriers_ev) and (barrier := barriers_ev[edge.orbit]) is not None
    ]
    networks: dict[int, _Network] = {}
    reached: dict[int, float] = {}
    for barrier, edge in sorted(passable, key=lambda item: item[0]):
        dimension = len(_join(networks, edge).periods)
        for lower in range(1, dimension + 1):
            reached.setdefault(lower, barrier)
    return PercolationBarriers(one_d=reached.get(1), two_d=reached.get(2), three_d=reached.get(3))


def _join(networks: dict[int, _Network], edge: HopEdge) -> _Network:
    """Add a hop: either two parts become one, or a part gains a way from a site to its own copy."""
    first = networks.setdefault(edge.from_site, _Network({edge.from_site: (0, 0, 0)}))
    second = networks.setdefault(edge.to_site, _Network({edge.to_site: (0, 0, 0)}))
    # where the second part's origin lies, seen from the first's, when the hop is taken
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
    """Add a period where it is independent of those that are known: whole numbers, so no tolerance."""
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
