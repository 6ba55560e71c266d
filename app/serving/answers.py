"""What is answered to a request, before it is shaped into a schema."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from app.models.prediction import Prediction

Status = Literal["queued", "running", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class ModelReference:
    """Which checkpoint answered."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class SiteAnswer:
    """A site of the migrating ion in the uploaded cell."""

    index: int
    frac_coords: tuple[float, float, float]
    occupancy: float


@dataclass(frozen=True, kw_only=True)
class HopAnswer:
    """One symmetry-distinct hop of a crystal; sites and offset refer to the uploaded cell.

    Attributes:
        copies: every hop that symmetry makes equal to it, itself included: (from_site, to_site, offset x, y, z).
    """

    from_site: int
    to_site: int
    offset: tuple[int, int, int]
    distance_angstrom: float
    multiplicity: int
    excluded_because: str | None
    prediction: Prediction | None
    cached: bool
    warnings: tuple[str, ...]
    copies: tuple[tuple[int, int, int, int, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Percolation:
    """The lowest barriers that connect in one, two and three directions, eV; None where nothing connects."""

    one_d: float | None
    two_d: float | None
    three_d: float | None


@dataclass(frozen=True, kw_only=True)
class CrystalAnswer:
    """What a crystal's answer adds to a band's."""

    sites: tuple[SiteAnswer, ...]
    hops: tuple[HopAnswer, ...]
    percolation_ev: Percolation
    truncated: bool
    mechanism: Literal["vacancy", "dilute"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One object for every call that predicts.

    Attributes:
        prediction: the band's, or that of the hop whose barrier percolates first; None where nothing does.
        cached: every part of the answer came from the cache.
    """

    prediction_id: UUID
    created_at: datetime
    ion: str
    formula: str
    model: ModelReference
    prediction: Prediction | None
    threshold_ev: float
    cached: bool
    warnings: tuple[str, ...]
    crystal: CrystalAnswer | None = None
