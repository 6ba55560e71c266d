"""One run: a network for each fold, judged on the bands it has not seen, then one for all bands."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from app.models import graphs, networks
from app.models.allocator import keep_freed_memory
from app.models.checkpoints import NETWORKS
from app.models.graph_domain import VectorDistance
from app.models.graphs import BandGraph, GraphSpec, band_graph
from training.config import RunConfig
from training.corpus import Corpus
from training.fit import EpochReport, fit, outputs_of

Report = Callable[[str, EpochReport], None]


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """A network fitted without one fold, asked about that fold.

    Attributes:
        rows: the fold's rows in the corpus, shape [n].
        outputs: the network's, in transformed units, shape [n].
        distances: of each band to the nearest fitted one (app.models.graph_domain.VectorDistance), shape [n].
        seconds: what the fit took.
    """

    fold: int
    rows: np.ndarray
    outputs: np.ndarray
    distances: np.ndarray
    seconds: float


class Run:
    """A configuration, a corpus and a folder.

    Args:
        config: what to fit.
        corpus: the labelled bands; only sound ones are fitted.
        folder: where states, logs and results are kept; a run goes on from what is there.
        device: where to fit.
        threads: of a CPU fit; 0 leaves the choice to torch. Two runs of one thread on different folds use two
            cores better than one run of two.
    """

    def __init__(
        self, config: RunConfig, corpus: Corpus, folder: Path, *, device: torch.device, threads: int = 0
    ) -> None:
        if device.type == "cpu":
            keep_freed_memory()
            if threads:
                torch.set_num_threads(threads)
        self.config = config
        self.corpus = corpus
        self.device = device
        self.folder = folder / self._fingerprint()
        spec = GraphSpec(**config.graph)
        self.graphs: list[BandGraph] = [band_graph(record.band, spec) for record in corpus.records]

    def fold(self, fold: int, report: Report) -> FoldResult:
        """The result of a fold, fitted now unless it was fitted before."""
        path = self.folder / f"fold-{fold}" / "result.safetensors"
        held_out = self.corpus.folds(self.config.folding) == fold
        if not path.is_file():
            network, seconds = self.fitted(~held_out & self.corpus.sound, path.parent, f"fold {fold}", report)
            self._judge(network, held_out, seconds, path)
        kept = load_file(path)
        return FoldResult(
            fold=fold,
            rows=kept["rows"].numpy(),
            outputs=kept["outputs"].numpy(),
            distances=kept["distances"].numpy(),
            seconds=float(kept["seconds"]),
        )

    def fitted(self, rows: np.ndarray, folder: Path, label: str, report: Report) -> tuple[nn.Module, float]:
        """A network fitted on some rows, and the seconds that its fit took, in however many pieces."""
        torch.manual_seed(self.config.fit.seed)
        network = NETWORKS[self.config.network](**self.config.arguments)
        numbers = np.flatnonzero(rows)
        seconds = fit(
            network,
            [self.graphs[number] for number in numbers],
            self.to_target(self.corpus.barriers_ev[numbers]),
            config=self.config.fit,
            folder=folder,
            device=self.device,
            report=lambda epoch: report(label, epoch),
        )
        return network, seconds

    def to_target(self, barriers_ev: np.ndarray) -> np.ndarray:
        """Transformed barriers, as the network gives them."""
        target = self.config.target
        return np.asarray((np.log(barriers_ev + target.offset_ev) - target.mean) / target.scale)

    def to_barriers_ev(self, outputs: np.ndarray) -> np.ndarray:
        """Barriers from the network's outputs, eV."""
        target = self.config.target
        return np.asarray(np.maximum(np.exp(outputs * target.scale + target.mean) - target.offset_ev, 0.0))

    def _judge(self, network: nn.Module, held_out: np.ndarray, seconds: float, path: Path) -> None:
        fitted = [self.graphs[number] for number in np.flatnonzero(~held_out & self.corpus.sound)]
        asked = [self.graphs[number] for number in np.flatnonzero(held_out)]
        _, known = outputs_of(network, fitted, self.device)
        outputs, vectors = outputs_of(network, asked, self.device)
        pending = path.with_suffix(".pending")  # a run killed here leaves no half-written result
        save_file(
            {
                "rows": torch.from_numpy(np.flatnonzero(held_out)),
                "outputs": torch.from_numpy(outputs),
                "distances": torch.from_numpy(VectorDistance(known)(vectors).astype(np.float64)),
                "seconds": torch.tensor(seconds, dtype=torch.float64),
            },
            pending,
        )
        pending.replace(path)

    def _fingerprint(self) -> str:
        """Names the run by what decides its weights, so that nothing changed resumes what came before.

        These are the configuration, the corpus, and the code of graphs and networks.
        """
        deciding = self.config.to_json()
        for name in ("description", "calibration_folds"):
            del deciding[name]
        code = [Path(graphs.__file__), *sorted(Path(networks.__file__).parent.glob("*.py"))]
        told = [json.dumps(deciding, sort_keys=True), self.corpus.sha256, *[path.read_text("utf-8") for path in code]]
        return f"{self.config.name}-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:10]}"
