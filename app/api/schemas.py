"""Schemas of request bodies and answers, as the OpenAPI page shows them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["queued", "running", "done", "failed"]
Vector = Annotated[list[float], Field(min_length=3, max_length=3)]
#: What `ranking_ev` is, in an answer and in the log.
RANKING = (
    "To compare crystals by, eV, low for a good conductor, no barrier: the mean of the 3d barriers by the model and by "
    "bond valence, 0.5 eV more where no site of the host is shared or partly empty, nor a site partly empty that the "
    "ion and the host share; the 0.5 eV was set for lithium. Where bond valence has no figure (`bond_valence.detail`), "
    "the model's barrier and 0.12 eV in place of the mean. Null where the hops, or bond valence, do not connect in "
    "three dimensions."
)


class JsonBand(BaseModel):
    """A band with the field names of the data set; other fields are ignored."""

    lattice_angstrom: list[Vector] = Field(
        description="Rows are the lattice vectors, angstrom.", min_length=3, max_length=3
    )
    host_species: list[str] = Field(description="Element of every atom but the migrating one.")
    host_frac_coords: list[Vector] = Field(description="Fractional coordinates of those atoms.")
    ion: str = Field(description="The migrating element.")
    image_frac_coords: list[Vector] = Field(
        description="Fractional coordinates of the ion, first to last; two rows (the end points) are enough.",
        min_length=2,
    )
    image_energies_ev: list[float | None] | None = Field(
        None, description="The total energy of each image, eV, null where it is not known: a finished NEB's."
    )


class Interval(BaseModel):
    """A central interval of the barrier's predictive distribution."""

    low: float = Field(description="eV")
    high: float | None = Field(description="eV; null where it is above 15 eV: unbounded.")
    coverage: float = Field(description="The share of barriers that such intervals contain, 0.9.")


class GoodConductor(BaseModel):
    """Whether the barrier lies below the threshold."""

    verdict: bool | None = Field(description="Null where there is no barrier.")
    probability: float | None = Field(description="That the barrier lies below the threshold.")
    threshold_ev: float = Field(description="eV")


class InDomain(BaseModel):
    """Whether the input is in the domain of the model, the kind of bands that it was fitted on."""

    verdict: bool | None
    reasons: list[str] = Field(description="Why not, one sentence each.")


class ModelReference(BaseModel):
    """The checkpoint that answered."""

    name: str
    version: str
    digest: str = Field(description="SHA-256 of the weights.")


class OtherModel(BaseModel):
    """Another checkpoint, selected by `?model=`."""

    name: str
    mae_ev: float | None = Field(description="Mean absolute error out of fold, random folds, sound rows, eV.")
    seconds_per_band: float | None = Field(description="For a single band, on the machine where its card was written.")


class Site(BaseModel):
    """A site of the migrating ion in the uploaded cell."""

    index: int
    frac_coords: Vector
    occupancy: float = Field(description="0 for an interstitial site.")


class _Predicted(BaseModel):
    barrier_ev: float | None = Field(description="eV; null where there is none.")
    interval_ev: Interval | None
    quantiles_ev: dict[str, float | None] | None = Field(
        description="The barrier's predictive distribution, eV by level from 0.01 to 0.99, null above 15 eV; linear "
        "between them it gives the probability at any threshold."
    )
    good_conductor: GoodConductor
    in_domain: InDomain | None
    leans_on: dict[str, float] | None = Field(
        default=None,
        description="How far the hop resembles the barriers of each corpus that the model was fitted on, as shares "
        "that add up to 1: its answer is mixed from theirs. Null for a model of one corpus.",
    )
    cached: bool
    warnings: list[str]


class Hop(_Predicted):
    """One symmetry-distinct hop; sites and offset refer to the uploaded cell."""

    from_site: int
    to_site: int
    offset: Annotated[list[int], Field(min_length=3, max_length=3)]
    distance_angstrom: float
    multiplicity: int = Field(description="Undirected hops like this one in the uploaded cell.")
    excluded_because: str | None = Field(description="Why it is not predicted; null if it is.")
    ordering_barriers_ev: list[float | None] = Field(
        default=[],
        description="The barrier in each ordering of a disordered crystal, of another one of `copies` in each, eV; "
        "`barrier_ev` is their mean. Empty if there is only one.",
    )
    copies: list[Annotated[list[int], Field(min_length=5, max_length=5)]] = Field(
        description="All symmetry-equivalent hops, itself included: from_site, to_site, offset."
    )


class PercolationBarriers(BaseModel):
    """The lowest barriers up to which hops connect through the crystal; null where they do not."""

    one_d: float | None = Field(alias="1d", description="eV")
    two_d: float | None = Field(alias="2d", description="eV")
    three_d: float | None = Field(alias="3d", description="eV")


class PercolationPath(BaseModel):
    """How hops connect through the crystal in one, two or three dimensions."""

    barrier_ev: float | None = Field(description="eV; null where they do not connect.")
    interval_ev: Interval | None
    percolating_share: float | None = Field(
        None,
        description="The share of the sampled fillings of the sites in which they connect; 0 or 1 of an ordered one. "
        "The barrier is the median over the fillings, and null below one half.",
    )
    bottleneck_hops: list[int] = Field(description="Indices in `hops` of the hops without which they do not connect.")
    directions: list[Annotated[list[int], Field(min_length=3, max_length=3)]] = Field(
        description="Lattice directions [u, v, w] of the uploaded cell along which they connect."
    )


class PercolationPaths(BaseModel):
    """The paths by dimension; null in answers of earlier versions where hops do not connect."""

    one_d: PercolationPath | None = Field(alias="1d")
    two_d: PercolationPath | None = Field(alias="2d")
    three_d: PercolationPath | None = Field(alias="3d")


class Ordering(BaseModel):
    """One ordering of a disordered crystal's host."""

    species: list[str] = Field(description="The elements on the shared and partly empty sites.")
    frac_coords: list[Vector] = Field(description="Their positions in the ordered supercell.")
    electrostatic_energy_ev: float | None = Field(
        description="Relative to the least stable one, eV; null for a random one."
    )
    percolation_ev: PercolationBarriers


class PercolatingShares(BaseModel):
    """How many of the fillings connect in one, two and three dimensions, 0 to 1."""

    one_d: float = Field(alias="1d")
    two_d: float = Field(alias="2d")
    three_d: float = Field(alias="3d")


class Fillings(BaseModel):
    """Sampled fillings of the ion's sites, closed where an atom of the host is on one."""

    count: int
    percolating_share: PercolatingShares
    mean_percolation_ev: PercolationBarriers = Field(description="Of those that connect.")
    spread_percolation_ev: PercolationBarriers = Field(description="Standard deviation over these.")


class Disorder(BaseModel):
    """How the shared and partly empty sites of a crystal's host were filled; each ordering is predicted."""

    method: Literal["lowest-energy", "samples"]
    oxidation_states: dict[str, int] | None = Field(description="Guessed from the composition; null where that failed.")
    lattice_angstrom: list[Vector] = Field(description="Of the ordered supercell; rows are its vectors.")
    mean_percolation_ev: PercolationBarriers
    spread_percolation_ev: PercolationBarriers = Field(description="Standard deviation over the orderings.")
    fillings: Fillings | None = None
    orderings: list[Ordering]


class BondValence(BaseModel):
    """Percolation by bond valence site energies, all ions removed: an independent figure beside the model's."""

    percolation_ev: PercolationBarriers = Field(
        description="Above the lowest point of the landscape; null where it does not connect within 10 eV."
    )
    grid_angstrom: float | None = Field(description="Spacing of its grid; null where there is no landscape.")
    detail: str | None = Field(
        description="The reason for a missing result, such as lacking parameters; null where there is a result."
    )


class SecondOpinion(BaseModel):
    """Percolation by another method."""

    method: Literal["bvse"]
    percolation_ev: PercolationBarriers
    answered: bool
    detail: str = Field(description="The basis of the computation, or why there is none.")
    seconds: float


class UploadedBand(BaseModel):
    """The barrier that an uploaded band shows by itself, by the energies of its images."""

    forward_ev: float | None = Field(
        description="From the first image to the highest; null where the first has no energy, or no other image has."
    )
    reverse_ev: float | None = Field(description="From the last image to the highest; null likewise.")
    highest_image: int = Field(description="Counted from 0.")
    energies_ev: list[float | None] = Field(
        description="Of each image above the lower end point, eV; null where the file has none."
    )


class IntervalLog10(BaseModel):
    """A central interval of the conductivity's predictive distribution."""

    low: float = Field(description="log10 of S/cm")
    high: float = Field(description="log10 of S/cm")
    coverage: float = Field(description="The share of conductivities that such intervals contain, 0.9.")


class ProbabilityAbove(BaseModel):
    """The probability that the conductivity is above a value in S/cm."""

    above_1e_5: float = Field(alias="1e-5")
    above_1e_4: float = Field(alias="1e-4")
    above_1e_3: float = Field(alias="1e-3")


class Influence(BaseModel):
    """A number that speaks for or against a high conductivity."""

    name: str
    value: float | None = Field(description="Null for `measured_relatives`, which are many.")
    decades: float = Field(description="What it adds to log10, against the mean of the measured crystals.")
    text: str


class Conductivity(BaseModel):
    """A crystal's ionic conductivity at room temperature."""

    model_config = ConfigDict(protected_namespaces=())

    log10_conductivity_s_per_cm: float
    interval_log10: IntervalLog10
    probability_above: ProbabilityAbove
    temperature_kelvin: float
    in_domain: InDomain
    influences: list[Influence] = Field(description="Three numbers, the strongest first.")
    model: ModelReference


class ConductivityAnswer(Conductivity):
    """The answer of the call for a conductivity; `GET /predictions/{id}` adds every hop."""

    ion: str
    formula: str
    percolation_ev: PercolationBarriers
    percolation_upper_bound: bool = Field(
        description="Hops that may be passable were not predicted, so the true barriers may be lower."
    )
    barrier_model: ModelReference
    prediction_id: UUID
    created_at: datetime
    cached: bool
    warnings: list[str]


class PredictionAnswer(_Predicted):
    """The answer of all prediction calls; for a crystal, with the fields from `sites` on."""

    model_config = ConfigDict(protected_namespaces=())

    prediction_id: UUID
    created_at: datetime
    ion: str
    formula: str
    model: ModelReference
    uploaded_band: UploadedBand | None = Field(
        None, description="Of a band whose file has energies; `barrier_ev` is ionpath's all the same."
    )
    other_models: list[OtherModel] = Field(default=[], description="Other checkpoints, with their cost and error.")
    sites: list[Site] | None = None
    hops: list[Hop] | None = None
    percolation_ev: PercolationBarriers | None = None
    percolation: PercolationPaths | None = None
    ranking_ev: float | None = Field(None, description=RANKING)
    percolation_upper_bound: bool | None = Field(
        None, description="Hops that may be passable were not predicted, so the true barriers may be lower."
    )
    truncated: bool | None = Field(None, description="There are more hops than were predicted.")
    mechanism: Literal["vacancy", "dilute"] | None = None
    disorder: Disorder | None = None
    bond_valence: BondValence | None = None
    second_opinion: SecondOpinion | None = None
    conductivity: Conductivity | None = Field(None, description="Of a crystal, where it was asked for.")


class ClassificationAnswer(PredictionAnswer):
    """The answer with the verdict at the top."""

    verdict: bool | None = Field(description="Whether the barrier lies below the threshold.")
    probability: float | None = Field(description="That the barrier lies below the threshold.")
    threshold_ev: float = Field(description="eV")
    probability_above_1e_4_s_per_cm: float | None = Field(
        alias="probability_above_1e-4_s_per_cm",
        description="That a crystal conducts better than 1e-4 S/cm at room temperature; null for a band, and for an "
        "ion whose conductivity is not predicted.",
    )


class ModelList(BaseModel):
    """The available checkpoints."""

    default: str
    models: list[dict[str, object]] = Field(description="Their cards.")


class Live(BaseModel):
    """The process is alive."""

    status: Literal["alive"]


class Check(BaseModel):
    """A component of the service."""

    ok: bool
    detail: str
    required: bool = Field(description="Whether the service needs this component to answer.")


class Ready(BaseModel):
    """Whether the service can answer, by component."""

    status: Literal["ready", "not ready"]
    checks: dict[str, Check]


class Problem(BaseModel):
    """A problem (RFC 9457)."""

    type: str = Field(
        description="`urn:ionpath:problem:` and the kind: identifies the kind of problem, stable across releases."
    )
    title: str
    status: int
    detail: str = Field(description="What is wrong.")
    kind: str = Field(description="The last part of `type`.")
    where: str | None = Field(None, description="The file, line or field.")
    expected: str | None = Field(None, description="What would be valid instead.")
    request_id: str | None = None
