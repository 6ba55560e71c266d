"""Schemas of logged predictions: their status, lists, and stored inputs."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas import (
    RANKING,
    BondValence,
    Conductivity,
    Disorder,
    GoodConductor,
    Hop,
    InDomain,
    Interval,
    ModelReference,
    OtherModel,
    PercolationBarriers,
    PercolationPaths,
    SecondOpinion,
    Site,
    Status,
    UploadedBand,
    Vector,
)


class StoredBand(BaseModel):
    """The band stored with a prediction, as it was sent, under the data set's field names."""

    lattice_angstrom: list[Vector]
    host_species: list[str]
    host_frac_coords: list[Vector]
    ion: str
    image_frac_coords: list[Vector]
    relaxed_host_frac_coords: list[list[Vector]] | None = Field(
        None, description="The host of each image, if its atoms move between images."
    )
    image_energies_ev: list[float | None] | None = Field(
        None, description="The energies that the file had of its images, eV."
    )


class StoredSite(BaseModel):
    """A site of an uploaded crystal."""

    species: dict[str, float] = Field(description="The occupancy of each element.")
    frac_coords: Vector


class StoredCrystal(BaseModel):
    """The crystal stored with a prediction, and the options of the hop search."""

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
    """The status of a prediction."""

    prediction_id: UUID
    status: Status
    progress: float = Field(description="0 to 1.")
    created_at: datetime
    kind: Literal["band", "crystal"] | None = Field(None, description="What was sent.")


class AcceptedPrediction(PredictionStatus):
    """A prediction that was accepted and is computed asynchronously."""

    location: str = Field(description="`/predictions/{id}`, which has its status and then its answer.")


class LoggedProblem(BaseModel):
    """A problem, as it was logged."""

    title: str
    status: int
    detail: str
    kind: str
    where: str | None = None
    expected: str | None = None


class ListedPrediction(PredictionStatus):
    """A logged prediction; once done it has the fields of the answer as well."""

    model_config = ConfigDict(protected_namespaces=())

    error: LoggedProblem | None = Field(None, description="The problem, if it failed.")
    ion: str | None = None
    formula: str | None = None
    threshold_ev: float | None = Field(None, description="eV; in `good_conductor` once it is done.")
    barrier_ev: float | None = None
    interval_ev: Interval | None = None
    quantiles_ev: dict[str, float | None] | None = None
    uploaded_band: UploadedBand | None = None
    good_conductor: GoodConductor | None = None
    in_domain: InDomain | None = None
    leans_on: dict[str, float] | None = None
    model: ModelReference | None = None
    other_models: list[OtherModel] | None = None
    cached: bool | None = None
    warnings: list[str] | None = None
    sites: list[Site] | None = None
    hops: list[Hop] | None = None
    percolation_ev: PercolationBarriers | None = None
    percolation: PercolationPaths | None = None
    ranking_ev: float | None = Field(None, description=RANKING)
    percolation_upper_bound: bool | None = Field(
        None, description="Hops that may be passable were not predicted, so the true barriers may be lower."
    )
    truncated: bool | None = None
    mechanism: Literal["vacancy", "dilute"] | None = None
    disorder: Disorder | None = None
    bond_valence: BondValence | None = None
    second_opinion: SecondOpinion | None = None
    conductivity: Conductivity | None = Field(None, description="Of a crystal, where it was asked for.")


class StoredPrediction(ListedPrediction):
    """A logged prediction with its stored input."""

    input: StoredBand | StoredCrystal | None = Field(
        description="The canonical input as it was stored; null with IONPATH_STORE_INPUTS=0."
    )


class PredictionPage(BaseModel):
    """A page of logged predictions, newest first."""

    predictions: list[ListedPrediction]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")
