"""A run: a network for each fold, evaluated on the bands it has not seen, then one for all bands."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from app.models.allocator import keep_freed_memory
from app.models.checkpoints import GRAPH_NETWORKS
from app.models.graphs.shells import GraphSpec
from app.models.predictors.graph_domain import VectorDistance
from training import editions
from training.band_files import prepare_bands
from training.barrier_task import BandGraphs, BarrierTask, outputs_of
from training.config import RunConfig
from training.corpus import Corpus
from training.fit import EpochReport, fit
from training.trunks import Trunk, read_trunk

Report = Callable[[str, EpochReport], None]


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """The predictions of a fold by a network that was fitted without it.

    Attributes:
        rows: the fold's rows in the corpus, shape [n].
        outputs: of the network, in transformed units, shape [n].
        distances: of each band to the nearest fitted one (graph_domain.VectorDistance), shape [n].
        seconds: duration of the fit.
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
        folder: where states, logs and results are kept; a run resumes from them.
        device: where to fit.
        store: the model store that a pre-trained trunk is read from.
        threads: of a CPU fit; 0 lets torch choose. Two runs of one thread on different folds use two
            cores better than one run of two.
    """

    def __init__(
        self,
        config: RunConfig,
        corpus: Corpus,
        folder: Path,
        *,
        device: torch.device,
        store: Path | None = None,
        threads: int = 0,
    ) -> None:
        if device.type == "cpu":
            keep_freed_memory()
            if threads:
                torch.set_num_threads(threads)
        self.config = config
        self.corpus = corpus
        self.device = device
        self.trunk: Trunk | None = None
        if config.pretrained:
            self.trunk = read_trunk((store or Path("model_store")) / config.pretrained, config)
        self.folder = folder / run_name(config, corpus.sha256, self.trunk.weights_sha256 if self.trunk else "")
        spec = GraphSpec(**config.graph)
        states = GRAPH_NETWORKS[config.network].states
        self.graphs: list[BandGraphs] = prepare_bands(corpus, folder / "graphs", spec, states)

    def fold(self, fold: int, report: Report) -> FoldResult:
        """The result of a fold, fitted unless it is on disk."""
        path = self._result(fold)
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

    def has_fold(self, fold: int) -> bool:
        """Whether the result of a fold is on disk."""
        return self._result(fold).is_file()

    def parameter_count(self) -> int:
        """The number of parameters of the network."""
        network = GRAPH_NETWORKS[self.config.network](**self.config.arguments)
        return sum(parameter.numel() for parameter in network.parameters())

    def _result(self, fold: int) -> Path:
        return self.folder / f"fold-{fold}" / "result.safetensors"

    def fitted(self, rows: np.ndarray, folder: Path, label: str, report: Report) -> tuple[nn.Module, float]:
        """A network fitted on some rows, and the seconds of the fit, summed over interruptions."""
        torch.manual_seed(self.config.fit.seed)
        network = GRAPH_NETWORKS[self.config.network](**self.config.arguments)
        if self.trunk is not None:
            self.trunk.copy_to(network)
        numbers = np.flatnonzero(rows)
        task = BarrierTask(
            graphs=[self.graphs[number] for number in numbers],
            targets=self.to_target(self.corpus.barriers_ev[numbers]),
            batch_bands=self.config.batch_bands,
            seed=self.config.fit.seed,
        )
        seconds = fit(
            network,
            task,
            config=self.config.fit,
            folder=folder,
            device=self.device,
            report=lambda epoch: report(label, epoch),
        )
        return network, seconds

    def to_target(self, barriers_ev: np.ndarray) -> np.ndarray:
        """Transform barriers in eV to the units of the network's outputs."""
        return self.config.target.to_output(barriers_ev)

    def to_barriers_ev(self, outputs: np.ndarray) -> np.ndarray:
        """Barriers from the network's outputs, eV."""
        return self.config.target.to_barriers_ev(outputs)

    def _judge(self, network: nn.Module, held_out: np.ndarray, seconds: float, path: Path) -> None:
        fitted = [self.graphs[number] for number in np.flatnonzero(~held_out & self.corpus.sound)]
        asked = [self.graphs[number] for number in np.flatnonzero(held_out)]
        _, known = outputs_of(network, fitted, self.device)
        outputs, vectors = outputs_of(network, asked, self.device)
        pending = path.with_suffix(".pending")  # a run killed here leaves no partial result
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


def run_name(config: RunConfig, corpus_sha256: str, trunk_sha256: str) -> str:
    """The name of a run's folder: the configuration's name, and a digest of everything that decides the weights.

    Args:
        config: its description and the folds of the calibration change no fit, and its sources are the corpus.
        corpus_sha256: of the labelled bands.
        trunk_sha256: of the copied trunk's weights; empty where none is copied.
    """
    deciding = {
        key: value
        for key, value in config.to_json().items()
        if key not in {"description", "calibration_folds", "sources"}
    }
    digest = editions.short_digest(deciding, corpus_sha256, trunk_sha256, editions.GRAPHS, editions.FITS)
    return f"{config.name}-{digest}"
