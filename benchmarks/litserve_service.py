"""The same model behind LitServe, batched."""

import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np

from app.crystals.band import Band
from app.models.prediction import Prediction
from app.models.predictors.predictor import Predictor
from app.models.registry import Registry

STORE = Path(__file__).resolve().parent.parent / "model_store"


class BarrierApi(litserve.LitAPI):  # type: ignore[misc]  # litserve ships no types
    """One band a request; graphs and forward pass of a batch together."""

    def __init__(self, model: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._model = model

    def setup(self, device: str) -> None:
        """Load the checkpoint; the registry chooses the device, as for the other services."""
        del device
        self.predictor: Predictor = Registry.open(STORE, "auto", default=self._model).predictor()
        self.predictor.warm_up()

    def decode_request(self, request: dict[str, Any]) -> Band:
        """A JSON band."""
        return Band(
            lattice_angstrom=np.array(request["lattice_angstrom"]),
            host_species=tuple(request["host_species"]),
            host_frac_coords=np.array(request["host_frac_coords"]),
            ion=request["ion"],
            image_frac_coords=np.array(request["image_frac_coords"]),
        )

    def batch(self, inputs: list[Band]) -> list[Band]:
        """Bands as they are: graphs are joined by the predictor."""
        return inputs

    def predict(self, bands: list[Band]) -> list[Prediction]:
        """Graphs and one forward pass."""
        return self.predictor.predict([self.predictor.graph(band) for band in bands])

    def unbatch(self, output: list[Prediction]) -> list[Prediction]:
        """One prediction a request."""
        return output

    def encode_response(self, output: Prediction) -> dict[str, Any]:
        """The barrier and its interval."""
        low, high = output.interval_ev
        return {"barrier_ev": output.barrier_ev, "low_ev": low, "high_ev": high}


if __name__ == "__main__":
    port, model, batch_size, timeout_ms = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    api = BarrierApi(model, max_batch_size=batch_size, batch_timeout=timeout_ms / 1000, api_path="/predict/barrier")
    litserve.LitServer(api, accelerator="cpu").run(
        host="127.0.0.1", port=port, log_level="warning", generate_client_file=False, num_api_servers=1
    )
