"""The query parameters of each call, as the OpenAPI page shows them."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas import Status
from app.crystals.hops.options import HopOptions

DEFAULT_THRESHOLD_EV = 0.65
DEFAULT_MAX_HOP_ANGSTROM = 5.0
LONGEST_FILTER = 200


class _Query(BaseModel):
    """A query in which unknown parameters are refused, so that typing errors are noticed."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


_MAX_HOPS = Field(
    None,
    ge=1,
    description="For a crystal: maximum number of symmetry-distinct hops to predict, shortest first; limited by "
    "IONPATH_MAX_HOPS, and with `Prefer: respond-async` by IONPATH_MAX_HOPS_LATER.",
)


class PredictQuery(_Query):
    """The query parameters of both prediction calls."""

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
        "mobile ions are removed. `auto` chooses one, which the answer names.",
    )
    max_hops: int | None = _MAX_HOPS
    max_hop_angstrom: float = Field(
        DEFAULT_MAX_HOP_ANGSTROM,
        gt=0,
        le=12,
        allow_inf_nan=False,
        description="For a crystal: longest hop between two sites, in angstrom.",
    )
    include_close_hops: bool = Field(
        default=False,
        description="For a crystal: predict hops whose straight line passes an atom within 1.2 angstrom, or passes "
        "over a third site, as well; otherwise they are listed with `excluded_because` and do not percolate.",
    )
    interstitials: bool = Field(
        default=False,
        description="For a crystal that contains the ion: add interstitial sites to those of the file. An ion "
        "that it does not contain always hops between interstitial sites.",
    )
    second_opinion: Literal["bvse"] | None = Field(
        None,
        description="For a crystal: `bvse` adds the percolation barriers of bond-valence site energies, and a warning "
        "where they disagree by more than 0.5 eV.",
    )

    @property
    def hops(self) -> HopOptions:
        """Which hops of a crystal are searched for."""
        return HopOptions(
            mechanism=self.mechanism,
            max_hops=self.max_hops,
            max_hop_angstrom=self.max_hop_angstrom,
            include_close_hops=self.include_close_hops,
            interstitials=self.interstitials,
        )


class ConductivityQuery(_Query):
    """The query parameters of the call for a conductivity."""

    model: str | None = Field(
        None,
        description="Name of a checkpoint of barriers, as `GET /models` lists them; the default one, with whose "
        "percolation the conductivities were fitted, if left out.",
    )
    max_hops: int | None = _MAX_HOPS


#: Of ISO 8601, which is what pydantic reads.
_MOMENT = "ISO 8601, such as `2026-12-01` or `2026-12-01T09:30:00Z`; UTC where no time zone is given."


class ListQuery(_Query):
    """Filters of the list of predictions."""

    ion: str | None = Field(
        None,
        max_length=LONGEST_FILTER,
        description="The migrating element, such as `Li`, as `POST /predict/barrier` takes it.",
    )
    formula: str | None = Field(
        None,
        max_length=LONGEST_FILTER,
        description="Of the cell or of one formula unit, in any order: `LiFePO4` finds `Fe16 Li16 O64 P16`.",
    )
    model: str | None = Field(None, max_length=LONGEST_FILTER, description="Name of the checkpoint that answered.")
    status: Status | None = Field(None, description="`queued`, `running`, `done` or `failed`.")
    kind: Literal["band", "crystal"] | None = Field(None, description="What was sent.")
    created_after: datetime | None = Field(None, description=f"At or after this time: {_MOMENT}")
    created_before: datetime | None = Field(None, description=f"Before this time: {_MOMENT}")
    barrier_below_ev: float | None = Field(None, allow_inf_nan=False, description="Barrier below this, in eV.")
    limit: int = Field(50, ge=1, le=500, description="Maximum number of predictions per page.")
    cursor: str | None = Field(None, max_length=LONGEST_FILTER, description="`next_cursor` of the page before.")


class NoQuery(_Query):
    """A call without parameters."""


class FormQuery(_Query):
    """The format of a prediction."""

    format: str | None = Field(
        None,
        max_length=LONGEST_FILTER,
        description="`json`; `csv`, one row per hop; `zip`, NEB folders of POSCARs, one per hop; `neb-json`, every "
        "image for ASE's viewer and others. It takes precedence over the Accept header.",
        json_schema_extra={"enum": ["json", "csv", "zip", "neb-json", None]},
    )
