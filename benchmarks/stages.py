"""Where a band's milliseconds go: the CPU time of every stage, one after the other in one thread, and a floor.

The floor of the forward pass is its matrix products at the rate that one core has for products of their shape: what
is above it are the functions between the products, memory and Python.
"""

import json
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import orjson
import torch
from torch.utils.flop_counter import FlopCounterMode

from app.crystals.geometry.identity import canonical
from app.crystals.limits import Limits
from app.crystals.readers import read_json_band
from app.crystals.writers import band_to_json
from app.models.prediction import Prediction
from app.models.predictors.predictor import Predictor
from app.models.registry import Registry
from app.serving.answers.as_json import answer_to_json
from app.serving.answers.types import Answer, ModelReference
from app.serving.inference.queue import PREPARED_TOGETHER
from app.storage.rows import pack_input
from benchmarks.bare_loop import prepared as prepared_bands
from benchmarks.load import body_of
from benchmarks.throughput import STORE

#: Bands of a batch, and of the pieces that a lane takes of it.
BATCH = 16
ROUNDS = 3
#: The shape of the network's products, about: bonds of the ion in three bands, by features.
PRODUCT = (1024, 64, 64)
PRODUCTS = 2_000

Given = TypeVar("Given")
Result = TypeVar("Result")


def main() -> None:
    """Reads lines of the data set from standard input and prints milliseconds of CPU a band, and the floor, as JSON."""
    bodies = [body_of(json.loads(line)) for line in sys.stdin]
    predictor = Registry.open(STORE, "auto", default=sys.argv[1], threads=1).predictor()
    predictor.warm_up()
    stages: dict[str, float] = {}

    def stage(name: str, function: Callable[[Given], Result], given: Sequence[Given]) -> list[Result]:
        spent = []
        for _ in range(ROUNDS):
            started = time.process_time()
            results = [function(one) for one in given]
            spent.append(time.process_time() - started)
        stages[name] = 1e3 * min(spent) / len(bodies)
        return results

    limits = Limits()
    bands = [reading.band for reading in stage("read and check the JSON", lambda b: read_json_band(b, limits), bodies)]
    stage("canonical form for the cache", canonical, bands)
    stage("pack the input for the log", lambda band: pack_input(band_to_json(band)), bands)
    some = [bands[start : start + PREPARED_TOGETHER] for start in range(0, len(bands), PREPARED_TOGETHER)]
    together = stage(f"prepare {PREPARED_TOGETHER}: bonds, descriptors", partial(prepared_bands, predictor), some)
    prepared = [one for group in together for one in group]
    packed = stage("hand over from process to process, write", lambda one: pickle.dumps(one, protocol=5), prepared)
    stage("hand over from process to process, read", pickle.loads, packed)
    batches = [prepared[start : start + BATCH] for start in range(0, len(prepared), BATCH)]
    predicted = stage(f"forward, pieces of {BATCH}", predictor.predict, batches)
    answers = [one for batch in predicted for one in batch]
    stage("answer as JSON, twice", lambda one: [orjson.dumps(_answer(predictor, one)) for _ in range(2)], answers)
    print(json.dumps({"stages_ms": stages, "floor": floor(predictor, batches)}))


def _answer(predictor: Predictor, prediction: Prediction) -> dict[str, object]:
    answer = Answer(
        prediction_id=uuid4(),
        created_at=datetime.now(UTC),
        ion="Li",
        formula="Li1",
        model=ModelReference(name=predictor.name, version=predictor.version, digest=predictor.digest),
        prediction=prediction,
        threshold_ev=0.65,
        cached=False,
        warnings=(),
        crystal=None,
    )
    return answer_to_json(answer)


def floor(predictor: Predictor, batches: Sequence[Any]) -> dict[str, float]:
    """Operations of a band's matrix products, the rate of one core for them, and the milliseconds that follow."""
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            predictor._predict_piece(batch)  # noqa: SLF001 # counted in the thread that runs it, which a lane is not
    operations = counter.get_total_flops() / sum(map(len, batches))
    rows, shared, columns = PRODUCT
    one, other, result = torch.rand(rows, shared), torch.rand(shared, columns), torch.empty(rows, columns)
    torch.set_num_threads(1)
    started = time.process_time()
    for _ in range(PRODUCTS):
        torch.mm(one, other, out=result)
    rate = 2.0 * rows * shared * columns * PRODUCTS / (time.process_time() - started)
    return {"operations_per_band": operations, "operations_per_s": rate, "ms_per_band": 1e3 * operations / rate}


if __name__ == "__main__":
    main()
