"""The wire's words for bulk properties: what the OpenAPI page shows of the query and the answer."""

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas import ModelReference


class PropertiesQuery(BaseModel):
    """What may stand behind the question mark."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str | None = Field(
        None, description="Name of a checkpoint of bulk properties, as `GET /models` lists them (`kind`: `properties`)."
    )


class MeanError(BaseModel):
    """A mean absolute error on crystals that the model was not fitted on."""

    value: float
    low: float | None = Field(description="Lower end of its 95 % bootstrap interval.")
    high: float | None = Field(description="Upper end of its 95 % bootstrap interval.")
    unit: str = Field(description="`log(1 + ...)` of a property that is judged on its logarithm.")
    rows: int = Field(description="How many crystals it rests on.")


class BulkProperty(BaseModel):
    """One bulk property of the crystal."""

    name: str = Field(description="As in the data set, such as `formation_energy_ev_per_atom`.")
    value: float = Field(description="As the network gives it: one near zero may fall below zero.")
    unit: str = Field(description="Empty for a pure number.")
    test_mae: MeanError | None = Field(description="From the checkpoint's card; null where it has none.")


class BulkProperties(BaseModel):
    """The bulk properties of a crystal."""

    model_config = ConfigDict(protected_namespaces=())

    formula: str
    properties: list[BulkProperty]
    unknown_elements: list[str] = Field(description="Of the crystal, that no fitted crystal held.")
    model: ModelReference
    warnings: list[str]
    request_id: str
