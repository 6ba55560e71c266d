"""The wire's words: what the OpenAPI page shows of queries, bodies and answers."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Status = Literal["queued", "running", "done", "failed"]
Vector = Annotated[list[float], Field(min_length=3, max_length=3)]

DEFAULT_THRESHOLD_EV = 0.65
DEFAULT_MAX_HOP_ANGSTROM = 5.0
LONGEST_FILTER = 200


class _Query(BaseModel):
    """A query whose unknown names are refused, so that a typing error never goes unnoticed."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class PredictQuery(_Query):
    """What may stand behind the question mark of both calls that predict."""

    model: str | None = Field(
        None, description="Name of a checkpoint, as `GET /models` lists them; the default one if left out."
    )
    threshold_ev: float = Field(
        DEFAULT_THRESHOLD_EV,
        gt=0,
        le=100,
        allow_inf_nan=False,
        description="A good conductor has a barrier below this, in eV.",
    )
    mechanism: Literal["auto", "vacancy", "dilute"] = Field(
        "auto",
        description="For a crystal. `vacancy`: its other mobile ions stay and one is missing. `dilute`: all other "
        "mobile ions are removed. `auto` chooses, and the answer says which.",
    )
    max_hops: int | None = Field(
        None,
        ge=1,
        description="For a crystal: most symmetry-distinct hops to predict, shortest first; IONPATH_MAX_HOPS is the "
        "most that may be asked for, with `Prefer: respond-async` IONPATH_MAX_HOPS_LATER.",
    )
    max_hop_angstrom: float = Field(
        DEFAULT_MAX_HOP_ANGSTROM,
        gt=0,
        le=12,
        allow_inf_nan=False,
        description="For a crystal: longest hop between two sites, in angstrom.",
    )
    include_close_hops: bool = Field(
        default=False,
        description="For a crystal: predict hops whose straight line passes an atom within 1.2 angstrom, or runs over "
        "a third site, as well; else they are listed with `excluded_because` and do not percolate.",
    )
    interstitials: bool = Field(
        default=False,
        description="For a crystal that holds the ion: look for interstitial sites beside those of the file. An ion "
        "that it does not hold always hops between interstitial sites.",
    )
    second_opinion: Literal["bvse"] | None = Field(
        None,
        description="For a crystal: `bvse` adds the percolation barriers of bond-valence site energies, and a warning "
        "where they disagree by more than 0.5 eV.",
    )


class ListQuery(_Query):
    """Filters of the list of predictions."""

    ion: str | None = Field(None, max_length=LONGEST_FILTER, description="The migrating element, such as `Li`.")
    formula: str | None = Field(
        None, max_length=LONGEST_FILTER, description="As an answer gives it, such as `Fe16 Li16 O64 P16`."
    )
    model: str | None = Field(None, max_length=LONGEST_FILTER, description="Name of the checkpoint that answered.")
    status: Status | None = Field(None, description="`queued`, `running`, `done` or `failed`.")
    kind: Literal["band", "crystal"] | None = Field(None, description="What was sent.")
    created_after: AwareDatetime | None = Field(None, description="Not before this time, with its time zone.")
    created_before: AwareDatetime | None = Field(None, description="Before this time, with its time zone.")
    barrier_below_ev: float | None = Field(None, allow_inf_nan=False, description="Barrier below this, in eV.")
    limit: int = Field(50, ge=1, le=500, description="Most predictions of one page.")
    cursor: str | None = Field(None, max_length=LONGEST_FILTER, description="`next_cursor` of the page before.")


class NoQuery(_Query):
    """A call without parameters."""


class FormQuery(_Query):
    """In which form a prediction is given."""

    format: str | None = Field(
        None,
        max_length=LONGEST_FILTER,
        description="`json`; `csv`, one row a hop; `zip`, NEB folders of POSCARs, one a hop; `neb-json`, every image "
        "for ASE's viewer and others. It goes before the Accept header.",
        json_schema_extra={"enum": ["json", "csv", "zip", "neb-json", None]},
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


class Interval(BaseModel):
    """A central interval of the barrier's predictive distribution."""

    low: float = Field(description="eV")
    high: float = Field(description="eV")
    coverage: float = Field(description="The share of barriers that such intervals hold, 0.9.")


class GoodConductor(BaseModel):
    """Whether the barrier lies below the threshold."""

    verdict: bool | None = Field(description="Null where there is no barrier.")
    probability: float | None = Field(description="That the barrier lies below the threshold.")
    threshold_ev: float = Field(description="eV")


class InDomain(BaseModel):
    """Whether the input resembles what the model was fitted on."""

    verdict: bool | None
    reasons: list[str] = Field(description="In words, where it does not.")


class ModelReference(BaseModel):
    """The checkpoint that answered."""

    name: str
    version: str
    digest: str = Field(description="SHA-256 of the weights.")


class OtherModel(BaseModel):
    """A checkpoint that could have answered, by `?model=`."""

    name: str
    mae_ev: float | None = Field(description="Mean absolute error out of fold, random folds, sound rows, eV.")
    seconds_per_band: float | None = Field(description="One band alone, on the machine that made its card.")


class Site(BaseModel):
    """A site of the migrating ion in the uploaded cell."""

    index: int
    frac_coords: Vector
    occupancy: float = Field(description="0 of an interstitial site.")


class _Predicted(BaseModel):
    barrier_ev: float | None = Field(description="eV; null where there is none.")
    interval_ev: Interval | None
    quantiles_ev: dict[str, float] | None = Field(
        description="The barrier's predictive distribution, eV by level from 0.01 to 0.99; linear between them it "
        "gives the probability at any threshold."
    )
    good_conductor: GoodConductor
    in_domain: InDomain | None
    cached: bool
    warnings: list[str]


class Hop(_Predicted):
    """One symmetry-distinct hop; sites and offset refer to the uploaded cell."""

    from_site: int
    to_site: int
    offset: Annotated[list[int], Field(min_length=3, max_length=3)]
    distance_angstrom: float
    multiplicity: int = Field(description="Undirected hops like this one in the uploaded cell.")
    excluded_because: str | None = Field(description="Why it is not predicted; null where it is.")
    ordering_barriers_ev: list[float | None] = Field(
        default=[],
        description="The barrier in each ordering of a disordered crystal, eV, of which `barrier_ev` is the mean; "
        "empty where there is one alone.",
    )
    copies: list[Annotated[list[int], Field(min_length=5, max_length=5)]] = Field(
        description="Every hop that symmetry makes equal to it, itself included: from_site, to_site, offset."
    )


class PercolationBarriers(BaseModel):
    """The lowest barriers that connect through the crystal; null where nothing does."""

    one_d: float | None = Field(alias="1d", description="eV")
    two_d: float | None = Field(alias="2d", description="eV")
    three_d: float | None = Field(alias="3d", description="eV")


class PercolationPath(BaseModel):
    """How hops connect through the crystal in one, two or three dimensions."""

    barrier_ev: float = Field(description="eV")
    interval_ev: Interval
    bottleneck_hops: list[int] = Field(description="Indices in `hops` of those without which they would not connect.")
    directions: list[Annotated[list[int], Field(min_length=3, max_length=3)]] = Field(
        description="Lattice directions [u, v, w] of the uploaded cell along which the ion gets through."
    )


class PercolationPaths(BaseModel):
    """The same by dimension; null where nothing connects."""

    one_d: PercolationPath | None = Field(alias="1d")
    two_d: PercolationPath | None = Field(alias="2d")
    three_d: PercolationPath | None = Field(alias="3d")


class Ordering(BaseModel):
    """One ordering of a disordered crystal's frame."""

    species: list[str] = Field(description="What was put on the shared and partly empty sites.")
    frac_coords: list[Vector] = Field(description="Where, in the ordered supercell.")
    electrostatic_energy_ev: float | None = Field(description="Below the worst ordering, eV; null of a random sample.")
    percolation_ev: PercolationBarriers


class Disorder(BaseModel):
    """How the shared and partly empty sites of a crystal's frame were filled, each ordering predicted."""

    method: Literal["lowest-energy", "samples"]
    oxidation_states: dict[str, int] | None = Field(description="As guessed; null where they could not be.")
    lattice_angstrom: list[Vector] = Field(description="Of the ordered supercell; rows are its vectors.")
    mean_percolation_ev: PercolationBarriers
    spread_percolation_ev: PercolationBarriers = Field(description="Standard deviation over the orderings.")
    orderings: list[Ordering]


class SecondOpinion(BaseModel):
    """Percolation by another method."""

    method: Literal["bvse"]
    percolation_ev: PercolationBarriers
    answered: bool
    detail: str = Field(description="What it was computed on, or why there is none.")
    seconds: float


class PredictionAnswer(_Predicted):
    """One object for every call that predicts; a crystal's has the fields from `sites` on as well."""

    model_config = ConfigDict(protected_namespaces=())

    prediction_id: UUID
    created_at: datetime
    ion: str
    formula: str
    model: ModelReference
    other_models: list[OtherModel] = Field(default=[], description="What else could have answered, and its cost.")
    sites: list[Site] | None = None
    hops: list[Hop] | None = None
    percolation_ev: PercolationBarriers | None = None
    percolation: PercolationPaths | None = None
    percolation_upper_bound: bool | None = Field(
        None, description="Hops that may be passable were not predicted, so the true barriers may be lower."
    )
    truncated: bool | None = Field(None, description="More hops exist than were predicted.")
    mechanism: Literal["vacancy", "dilute"] | None = None
    disorder: Disorder | None = None
    second_opinion: SecondOpinion | None = None


class ClassificationAnswer(PredictionAnswer):
    """The same answer with the verdict at the top."""

    verdict: bool | None = Field(description="Whether the barrier lies below the threshold.")
    probability: float | None = Field(description="That the barrier lies below the threshold.")
    threshold_ev: float = Field(description="eV")


class StoredBand(BaseModel):
    """A band as it is kept with its prediction: as it was sent, under the data set's field names."""

    lattice_angstrom: list[Vector]
    host_species: list[str]
    host_frac_coords: list[Vector]
    ion: str
    image_frac_coords: list[Vector]
    relaxed_host_frac_coords: list[list[Vector]] | None = Field(
        None, description="The host of each image, where its atoms move; left out where they stay."
    )


class StoredSite(BaseModel):
    """A site of an uploaded crystal."""

    species: dict[str, float] = Field(description="The occupancy of each element.")
    frac_coords: Vector


class StoredCrystal(BaseModel):
    """A crystal as it is kept with its prediction, and how its hops were looked for."""

    lattice_angstrom: list[Vector]
    sites: list[StoredSite]
    ion: str
    mechanism: Literal["auto", "vacancy", "dilute"]
    max_hops: int
    max_hop_angstrom: float
    include_close_hops: bool
    interstitials: bool
    max_orderings: int


class PredictionStatus(BaseModel):
    """How far a prediction is."""

    prediction_id: UUID
    status: Status
    progress: float = Field(description="0 to 1.")
    created_at: datetime
    kind: Literal["band", "crystal"] | None = Field(None, description="What was sent.")


class AcceptedPrediction(PredictionStatus):
    """A prediction that was accepted and is answered later."""

    location: str = Field(description="`/predictions/{id}`, where its status and then its answer are.")


class LoggedProblem(BaseModel):
    """What went wrong, as it was logged."""

    title: str
    status: int
    detail: str
    kind: str
    where: str | None = None
    expected: str | None = None


class ListedPrediction(PredictionStatus):
    """A prediction as it was logged; once done it has the answer's fields as well."""

    model_config = ConfigDict(protected_namespaces=())

    error: LoggedProblem | None = Field(None, description="The problem, where it failed.")
    ion: str | None = None
    formula: str | None = None
    threshold_ev: float | None = Field(None, description="eV; in `good_conductor` once it is done.")
    barrier_ev: float | None = None
    interval_ev: Interval | None = None
    quantiles_ev: dict[str, float] | None = None
    good_conductor: GoodConductor | None = None
    in_domain: InDomain | None = None
    model: ModelReference | None = None
    other_models: list[OtherModel] | None = None
    cached: bool | None = None
    warnings: list[str] | None = None
    sites: list[Site] | None = None
    hops: list[Hop] | None = None
    percolation_ev: PercolationBarriers | None = None
    percolation: PercolationPaths | None = None
    percolation_upper_bound: bool | None = Field(
        None, description="Hops that may be passable were not predicted, so the true barriers may be lower."
    )
    truncated: bool | None = None
    mechanism: Literal["vacancy", "dilute"] | None = None
    disorder: Disorder | None = None
    second_opinion: SecondOpinion | None = None


class StoredPrediction(ListedPrediction):
    """The same with what was sent."""

    input: StoredBand | StoredCrystal | None = Field(
        description="The canonical input as it was stored; null with IONPATH_STORE_INPUTS=0."
    )


class PredictionPage(BaseModel):
    """One page of what was logged, newest first."""

    predictions: list[ListedPrediction]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")


class ModelList(BaseModel):
    """The checkpoints that can answer."""

    default: str
    models: list[dict[str, object]] = Field(description="Their cards.")


class Live(BaseModel):
    """The process is there."""

    status: Literal["alive"]


class Check(BaseModel):
    """One part that the service needs."""

    ok: bool
    detail: str
    required: bool = Field(description="Whether it can answer without this part.")


class Ready(BaseModel):
    """Whether it can answer, part by part."""

    status: Literal["ready", "not ready"]
    checks: dict[str, Check]


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(
        description="`urn:ionpath:problem:` and the kind: names the kind of problem, stable across releases."
    )
    title: str
    status: int
    detail: str = Field(description="What was wrong.")
    kind: str = Field(description="The end of `type`, alone.")
    where: str | None = Field(None, description="The file, line or field.")
    expected: str | None = Field(None, description="What would be right.")
    request_id: str | None = None
