"""Answers crystals one batch after the other in one thread, and says what each stage took and what came out.

`benchmarks.crystal_stages` runs it as a script, on the code of a commit: it uses nothing that came later but where it
asks for it by name.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from app.crystals.geometry.identity import canonical
from app.crystals.hops.search import HopSearch, find_hops
from app.crystals.limits import Limits
from app.crystals.readers import read_crystal
from app.crystals.readers.reading import File
from app.errors import IonpathError
from app.models.registry import Registry
from app.serving.answers.percolation_interval import percolating

try:
    from app.serving.answers.bond_valence import bond_valence_answer
except ModuleNotFoundError:  # came later
    bond_valence_answer = None  # type: ignore[assignment]

Result = TypeVar("Result")


def main() -> None:
    """Take a batch of crystals a line, as JSON, and give a line each: stages in CPU seconds, hops and barriers."""
    torch.set_num_threads(1)
    predictor = Registry.open(Path(sys.argv[1]), "cpu", default="default", threads=1).predictor()
    predictor.warm_up()
    for line in sys.stdin:
        print(json.dumps(Batch(predictor).answered(json.loads(line))), flush=True)


class Batch:
    """Some crystals, and what every stage of them took."""

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor
        self._stages_s: dict[str, float] = {}
        self._limits = Limits()

    def answered(self, crystals: list[dict[str, str]]) -> dict[str, Any]:
        """Stages, and for each crystal its hops and barriers or the problem.

        Args:
            crystals: of each its file's name, its text and the ion.
        """
        read = [self._read(**crystal) for crystal in crystals]
        whole = [one for one in read if not isinstance(one, str)]
        alone = [self._stage("forward, each crystal alone", self._predictor.predict, graphs) for _, graphs in whole]
        every = [graph for _, graphs in whole for graph in graphs]
        self._stage("forward, all together", self._predictor.predict, every)
        answered = iter(zip(whole, alone, strict=True))
        results: list[dict[str, Any]] = []
        for one in read:
            if isinstance(one, str):
                results.append({"problem": one})
                continue
            (search, _), predictions = next(answered)
            self._stage("percolation", percolating, search.all_hops, _of_hops(search, predictions))
            if bond_valence_answer is not None:
                self._stage("bond valence", bond_valence_answer, search.bond_valence_host)
            results.append({"hops": _hops(search), "barriers_ev": [one.barrier_ev for one in predictions]})
        return {"stages_s": self._stages_s, "results": results}

    def _read(self, *, name: str, text: str, ion: str) -> tuple[HopSearch, list[Any]] | str:
        """The hops and prepared bands of a crystal, or why there are none."""
        file = File(name=name, content=text.encode())
        try:
            crystal = self._stage("parse", read_crystal, file, self._limits, ion)
            search = self._stage("find hops", lambda: find_hops(crystal, ion, max_atoms=self._limits.max_atoms))
            bands = [band for hop in search.hops for band in hop.bands if band is not None]
            self._stage("canonical forms", lambda: [canonical(band) for band in bands])
            return search, self._stage("prepare", self._prepared, bands)
        except IonpathError as error:
            return f"{error.kind}: {error.detail}"

    def _prepared(self, bands: list[Any]) -> list[Any]:
        """All bands of a crystal: together, as a screening does, where the code can."""
        try:
            from app.models.predictors.preparation import prepared_together  # noqa: PLC0415 # came later
        except ImportError:
            return [self._predictor.graph(band) for band in bands]
        prepared: list[Any] = prepared_together(self._predictor.preparation, bands)
        if error := next((one for one in prepared if isinstance(one, IonpathError)), None):
            raise error
        return prepared

    def _stage(self, name: str, work: Callable[..., Result], *given: Any) -> Result:
        started = time.process_time()
        try:
            return work(*given)
        finally:
            self._stages_s[name] = self._stages_s.get(name, 0.0) + time.process_time() - started


def _of_hops(search: HopSearch, predictions: list[Any]) -> list[Any]:
    """The prediction of every hop, in its first ordering; None where it has no band."""
    left = iter(predictions)
    own = [[next(left) for band in hop.bands if band is not None] for hop in search.hops]
    return [some[0] if some else None for some in own]


def _hops(search: HopSearch) -> list[Any]:
    return [
        [hop.from_site, hop.to_site, list(hop.offset), hop.multiplicity, hop.excluded_because, hop.doubt]
        for hop in search.hops
    ]


if __name__ == "__main__":
    main()
