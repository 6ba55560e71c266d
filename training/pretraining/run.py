"""One pre-training: crystals, targets, a network fitted to all properties, and its errors on the test rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from app.models.allocator import keep_freed_memory
from app.models.cards.property_card import PropertyScale
from app.models.graphs.shells import GraphSpec
from app.models.networks.multi_property import MultiProperty
from training import editions
from training.fit import EpochReport, fit
from training.pretraining.config import PretrainingConfig
from training.pretraining.crystals import CrystalSet, prepare_crystals
from training.pretraining.properties import PROPERTIES, scalings
from training.pretraining.task import PropertyTask, outputs_of


class Pretraining:
    """A configuration, crystals and a folder.

    Args:
        config: what to fit.
        data: the folder with pretraining/crystals.jsonl.gz.
        runs: where graphs, states and logs are kept; a run resumes from them.
        device: where to fit.
        threads: of a CPU fit; 0 lets torch choose.
        processes: number of parallel processes that make graphs.
        report: called with the number of graphs made and the number of all graphs.
    """

    def __init__(
        self,
        config: PretrainingConfig,
        data: Path,
        runs: Path,
        *,
        device: torch.device,
        threads: int = 0,
        processes: int = 1,
        report: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        if device.type == "cpu":
            keep_freed_memory()
            if threads:
                torch.set_num_threads(threads)
        self.config = config
        self.device = device
        self.crystals: CrystalSet = prepare_crystals(
            data, runs / "graphs", GraphSpec(**config.graph), processes=processes, report=report
        )
        self.folder = runs / pretraining_name(config, self.crystals.sha256)
        columns = [PROPERTIES.index(name) for name in config.properties]
        self.values = self.crystals.properties[:, columns].astype(np.float64)
        self.scalings: tuple[PropertyScale, ...] = scalings(config.properties, self.values[self.crystals.rows("train")])

    def fitted(self, report: Callable[[EpochReport], None]) -> tuple[MultiProperty, float]:
        """The network with the weights of its best epoch, and the seconds of the fit, summed over interruptions."""
        torch.manual_seed(self.config.fit.seed)
        network = MultiProperty(properties=self.config.properties, trunk=self.config.trunk, head=list(self.config.head))
        seconds = fit(
            network, self._task(), config=self.config.fit, folder=self.folder, device=self.device, report=report
        )
        return network, seconds

    @property
    def fitted_rows(self) -> np.ndarray:
        """Row numbers of the crystals that are fitted."""
        return self.crystals.rows("train", most_atoms=self.config.most_atoms)

    def predictions(self, network: MultiProperty, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Labels and predictions of a split's rows in the properties' units, each of shape [n, n_properties]."""
        rows = self.crystals.rows(split)
        outputs = outputs_of(network, self.crystals, rows, self.config.batch_line_edges, self.device)
        predicted = [scaling.from_output(column) for scaling, column in zip(self.scalings, outputs.T, strict=True)]
        return self.values[rows], np.stack(predicted, axis=1)

    def _task(self) -> PropertyTask:
        targets = np.stack(
            [scaling.to_target(column) for scaling, column in zip(self.scalings, self.values.T, strict=True)], axis=1
        )
        return PropertyTask(
            crystals=self.crystals,
            fitted=self.fitted_rows,
            validated=self.crystals.rows("validation"),
            targets=targets,
            weights=self._weights(targets[self.crystals.rows("train")]),
            batch_line_edges=self.config.batch_line_edges,
            seed=self.config.fit.seed,
        )

    def _weights(self, targets: np.ndarray) -> np.ndarray:
        """The inverse spread of each property's targets, times the factor by which `balance` raises rare properties."""
        spread = np.nanmean(np.abs(targets - np.nanmedian(targets, axis=0)), axis=0)
        count = np.isfinite(targets).sum(axis=0)
        return np.asarray((count.max() / count) ** self.config.balance / spread)


def pretraining_name(config: PretrainingConfig, crystals_sha256: str) -> str:
    """The name of a pre-training's folder: the configuration's name, and a digest of what decides the weights."""
    deciding = {key: value for key, value in config.to_json().items() if key != "description"}
    return f"{config.name}-{editions.short_digest(deciding, crystals_sha256, editions.GRAPHS, editions.FITS)}"
