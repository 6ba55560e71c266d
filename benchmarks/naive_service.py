"""What a user would write in an afternoon: one FastAPI route, one band, one forward pass."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from app.crystals.band import Band
from app.models.registry import Registry

STORE = Path(__file__).resolve().parent.parent / "model_store"


class BandBody(BaseModel):
    """A JSON band."""

    lattice_angstrom: list[list[float]]
    host_species: list[str]
    host_frac_coords: list[list[float]]
    ion: str
    image_frac_coords: list[list[float]]


def create(model: str) -> FastAPI:
    """What a tutorial would have: the model called in the route, one band at a time."""
    predictor = Registry.open(STORE, "auto", default=model).predictor()
    app = FastAPI()

    @app.post("/predict/barrier")
    def predict(body: BandBody) -> dict[str, Any]:
        band = Band(
            lattice_angstrom=np.array(body.lattice_angstrom),
            host_species=tuple(body.host_species),
            host_frac_coords=np.array(body.host_frac_coords),
            ion=body.ion,
            image_frac_coords=np.array(body.image_frac_coords),
        )
        (prediction,) = predictor.predict([predictor.graph(band)])
        low, high = prediction.interval_ev
        return {"barrier_ev": prediction.barrier_ev, "low_ev": low, "high_ev": high}

    return app


if __name__ == "__main__":
    uvicorn.run(create(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
