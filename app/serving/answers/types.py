"""What is answered to a request, before it is shaped into a schema."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from app.crystals.hops.percolation import PercolationBarriers
from app.crystals.path_energies import PathEnergies
from app.models.cards.card import OtherModel
from app.models.prediction import ConductivityPrediction, Prediction

Status = Literal["queued", "running", "done", "failed"]

#: What a carrier costs in an ordered crystal: half of one electronvolt for a vacancy and an interstitial. Of lithium.
CARRIER_EV = 0.5
#: What bond valence usually adds to the mean of both methods' barriers: half of the median difference, 0.24 eV, over
#: the 211 measured conductors in which both connect. It stands in where bond valence has no figure.
USUAL_ADDITION_EV = 0.12


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
        prediction: of the hop; the mean over the host's orderings where there are several.
        ordering_barriers_ev: in each ordering, eV, None where there is no room for it; empty where there is one alone.
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
    ordering_barriers_ev: tuple[float | None, ...] = ()
    copies: tuple[tuple[int, int, int, int, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class PercolationPath:
    """How hops connect through the crystal in one, two or three dimensions.

    Attributes:
        barrier_ev: the lowest barrier up to which they do.
        quantiles_ev: its distribution at the levels of `app.models.prediction.QUANTILE_LEVELS`, eV.
        bottleneck_hops: indices of the hops without which they would not.
        directions: in which they connect, whole numbers of the uploaded cell's vectors.
    """

    barrier_ev: float
    quantiles_ev: tuple[float, ...]
    bottleneck_hops: tuple[int, ...]
    directions: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, kw_only=True)
class FillingsAnswer:
    """How percolation differs between sampled fillings of the sites that the host's atoms share with the ion.

    Attributes:
        count: fillings.
        shares: by dimension, how many of them connect in so many, 0 to 1.
        mean_ev: of the barriers of those that do; None where none does.
        spread_ev: the standard deviation of these.
    """

    count: int
    shares: dict[int, float]
    mean_ev: PercolationBarriers
    spread_ev: PercolationBarriers


@dataclass(frozen=True, kw_only=True)
class OrderingAnswer:
    """One ordering of the host's mixed sites, and how its hops percolate.

    Attributes:
        placed: the atoms on mixed sites, element symbols.
        frac_coords: where they are, in the ordered supercell.
        energy_ev: electrostatic, below the worst ordering, eV; None of a sample.
        percolation_ev: of this ordering alone.
    """

    placed: tuple[str, ...]
    frac_coords: tuple[tuple[float, float, float], ...]
    energy_ev: float | None
    percolation_ev: PercolationBarriers


@dataclass(frozen=True, kw_only=True)
class DisorderAnswer:
    """How a disordered host was ordered, and how far the orderings' answers lie apart.

    Attributes:
        method: the one ordering of lowest electrostatic energy, or seeded samples.
        oxidation_states: of each element; None where they could not be guessed.
        lattice_angstrom: of the ordered supercell, rows are its vectors.
        orderings: each was predicted.
        mean_ev: of their percolation barriers; None where one of them does not connect.
        spread_ev: the standard deviation of these.
        fillings: of the ion's sites.
    """

    method: Literal["lowest-energy", "samples"]
    oxidation_states: dict[str, int] | None
    lattice_angstrom: tuple[tuple[float, float, float], ...]
    orderings: tuple[OrderingAnswer, ...]
    mean_ev: PercolationBarriers
    spread_ev: PercolationBarriers
    fillings: FillingsAnswer | None = None


@dataclass(frozen=True, kw_only=True)
class SecondOpinion:
    """Percolation barriers by another method.

    Attributes:
        percolation_ev: eV; all None where it has no answer.
        detail: why it has none, or what it was computed on.
        seconds: what it took.
    """

    method: Literal["bvse"]
    percolation_ev: PercolationBarriers
    detail: str
    seconds: float
    answered: bool


@dataclass(frozen=True, kw_only=True)
class BondValenceAnswer:
    """Percolation by bond valence site energies, beside the model's in every crystal's answer.

    Attributes:
        percolation_ev: eV above the lowest point of the landscape; None where it does not connect, or all without one.
        grid_angstrom: spacing of the grid; None where there is no landscape.
        detail: why there is none; None where there is one.
    """

    percolation_ev: PercolationBarriers
    grid_angstrom: float | None = None
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConductivityAnswer:
    """A crystal's ionic conductivity, which rests on its percolation.

    Attributes:
        temperature_kelvin: for which it is predicted.
        model: which checkpoint predicted it.
    """

    prediction: ConductivityPrediction
    temperature_kelvin: float
    model: ModelReference


@dataclass(frozen=True, kw_only=True)
class CrystalAnswer:
    """What a crystal's answer adds to a band's.

    Attributes:
        percolation: by dimension; None where nothing connects in so many.
        truncated: there are more distinct hops than were asked for.
        percolation_upper_bound: hops that may be passable were not predicted.
        disorder: how the host was ordered; None where it is ordered as uploaded.
        host_is_mixed: whether elements share a site of the host, or one is partly empty, the ion's own among the latter
            where atoms of the host share it.
        second_opinion: where it was asked for.
        bond_valence: percolation by bond valence site energies.
        conductivity: where it was asked for and is predicted for the ion.
    """

    sites: tuple[SiteAnswer, ...]
    hops: tuple[HopAnswer, ...]
    percolation: dict[int, PercolationPath | None]
    truncated: bool
    percolation_upper_bound: bool
    mechanism: Literal["vacancy", "dilute"]
    disorder: DisorderAnswer | None = None
    host_is_mixed: bool = False
    second_opinion: SecondOpinion | None = None
    bond_valence: BondValenceAnswer | None = None
    conductivity: ConductivityAnswer | None = None

    def percolating_share(self, dimension: int) -> float:
        """The share of the sampled fillings that connect in so many dimensions; 0 or 1 of an ordered crystal."""
        if self.disorder is not None and self.disorder.fillings is not None:
            return self.disorder.fillings.shares[dimension]
        return float(self.percolation[dimension] is not None)

    @property
    def percolation_ev(self) -> PercolationBarriers:
        """The barriers alone."""
        one, two, three = (None if path is None else path.barrier_ev for path in self.percolation.values())
        return PercolationBarriers(one_d=one, two_d=two, three_d=three)

    @property
    def ranking_ev(self) -> float | None:
        """A figure to compare crystals by, low for a good conductor; no barrier, see docs/percolation.md.

        The mean of both methods' barriers in three dimensions, and the cost of a carrier where the host has no mixed
        site. None where either method has no path in three dimensions: both speak against conduction alike. Where bond
        valence has no figure at all (`detail`), what it usually adds is in its place, so that this is no advantage.
        """
        mean_ev = self._mean_of_both_ev()
        if mean_ev is None or self.host_is_mixed:
            return mean_ev
        return mean_ev + CARRIER_EV

    def _mean_of_both_ev(self) -> float | None:
        barrier_ev = self.percolation_ev.three_d
        if barrier_ev is None:
            return None
        if self.bond_valence is None or self.bond_valence.detail is not None:
            return barrier_ev + USUAL_ADDITION_EV
        other_ev = self.bond_valence.percolation_ev.three_d
        return None if other_ev is None else (barrier_ev + other_ev) / 2.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One object for every call that predicts.

    Attributes:
        prediction: the band's, or a crystal's lowest percolation barrier; None where nothing percolates.
        cached: every part of the answer came from the cache.
        uploaded_band: the energies of the images of a band that was sent with them.
    """

    prediction_id: UUID
    created_at: datetime
    ion: str
    formula: str
    model: ModelReference
    other_models: tuple[OtherModel, ...] = ()
    prediction: Prediction | None
    threshold_ev: float
    cached: bool
    warnings: tuple[str, ...]
    crystal: CrystalAnswer | None = None
    uploaded_band: PathEnergies | None = None
