"""The bare loops: graphs and forward passes in one process, with no service around them."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from app.crystals.band import Band
from app.models.predictors.predictor import Predictor
from app.models.predictors.preparation import PreparedBand, prepared_together
from app.models.registry import Registry
from app.serving.inference.queue import PREPARED_TOGETHER
from benchmarks.throughput import STORE
from training.corpus import record_from_json


def one_by_one(predictor: Predictor, bands: list[Band]) -> float:
    started = time.perf_counter()
    for band in bands:
        predictor.predict([predictor.graph(band)])
    return len(bands) / (time.perf_counter() - started)


def batched(predictor: Predictor, bands: list[Band], size: int) -> float:
    started = time.perf_counter()
    for start in range(0, len(bands), size):
        predictor.predict(prepared(predictor, bands[start : start + size]))
    return len(bands) / (time.perf_counter() - started)


def prepared(predictor: Predictor, bands: Sequence[Band]) -> list[PreparedBand]:
    """Prepared bands, as many at once as a service prepares."""
    if predictor.preparation is None:
        return [predictor.graph(band) for band in bands]
    made = [
        one
        for start in range(0, len(bands), PREPARED_TOGETHER)
        for one in prepared_together(predictor.preparation, bands[start : start + PREPARED_TOGETHER])
    ]
    return [one for one in made if isinstance(one, PreparedBand)]


def main() -> None:
    """Reads lines of the data set from standard input and prints bands a second as JSON."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in sys.stdin]
    bands = [record_from_json(row).band for row in rows]
    predictor = Registry.open(STORE, "auto", default=sys.argv[1]).predictor()
    predictor.warm_up()
    one_by_one(predictor, bands[:8])
    print(json.dumps({"one by one": one_by_one(predictor, bands), "batched, 32": batched(predictor, bands, 32)}))


if __name__ == "__main__":
    main()
