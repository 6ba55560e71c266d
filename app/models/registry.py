"""The model store, opened: every checkpoint checked and loaded onto the device."""

import os
from pathlib import Path
from typing import Any, Literal

import torch

from app.errors import NotFoundError
from app.models.allocator import keep_freed_memory
from app.models.cards import CARD_FILE, CheckpointError, OtherModel
from app.models.checkpoints import read_predictor
from app.models.lanes import Lanes
from app.models.predictor import Predictor


class Registry:
    """The checkpoints that can answer, by name.

    Args:
        predictors: one a checkpoint.
        default: the name that answers where none is asked for.

    Raises:
        CheckpointError: there is no checkpoint of the default name.
    """

    def __init__(self, predictors: dict[str, Predictor], *, default: str) -> None:
        if default not in predictors:
            raise CheckpointError(
                f"the default model {default!r} (IONPATH_DEFAULT_MODEL) is not among {', '.join(predictors) or 'none'}"
            )
        self._predictors = predictors
        self.default_name = default

    @classmethod
    def open(
        cls, store: Path, device: Literal["auto", "cpu", "cuda"] = "auto", *, default: str, threads: int = 0
    ) -> "Registry":
        """Loads every checkpoint of a folder.

        Args:
            store: a folder with one folder a checkpoint.
            device: "auto" takes a GPU where there is one.
            default: name of the checkpoint that answers where none is asked for.
            threads: on a CPU; 0 leaves the choice to torch.

        Raises:
            CheckpointError: the folder is missing, a checkpoint is damaged, or the device is not there.
        """
        if not store.is_dir():
            raise CheckpointError(f"the model store {store} (IONPATH_MODEL_STORE) is not a folder")
        chosen = choose_device(device)
        lanes = None
        if chosen.type == "cpu":
            keep_freed_memory()
            lanes = Lanes(threads or len(os.sched_getaffinity(0)))
        folders = sorted(path.parent for path in store.glob(f"*/{CARD_FILE}"))
        predictors = {folder.name: read_predictor(folder, device=chosen, lanes=lanes) for folder in folders}
        return cls(predictors, default=default)

    def names(self) -> tuple[str, ...]:
        """Names of all checkpoints, in alphabetical order."""
        return tuple(self._predictors)

    def predictor(self, name: str | None = None) -> Predictor:
        """The predictor of a name, or the default.

        Raises:
            NotFoundError: there is none of that name; the error lists those there are.
        """
        predictor = self._predictors.get(name or self.default_name)
        if predictor is None:
            raise NotFoundError(
                f"there is no model {name!r}",
                kind="unknown-model",
                where="model",
                expected=f"one of {', '.join(self._predictors)}",
            )
        return predictor

    def others(self, name: str) -> tuple[OtherModel, ...]:
        """The checkpoints beside one: what each would cost and how far off it is."""
        cards = [predictor.card for other, predictor in self._predictors.items() if other != name]
        return tuple(
            OtherModel(
                name=card.name,
                mae_ev=_number(card.metrics, "fold_random", "sound", "mae_ev", "value"),
                seconds_per_band=self.seconds_per_band(card.name),
            )
            for card in cards
        )

    def seconds_per_band(self, name: str) -> float | None:
        """What one band alone took on the machine that made the card; None where it does not say."""
        return _number(self.predictor(name).card.training, "seconds_per_band")

    def card(self, name: str) -> dict[str, Any]:
        """The card of a checkpoint as JSON values, with the digest that its answers carry."""
        card = self.predictor(name).card
        return {**card.to_json(), "digest": card.digest}


def _number(told: object, *path: str) -> float | None:
    """A figure of a card by the names that lead to it."""
    for name in path:
        told = told.get(name) if isinstance(told, dict) else None
    return float(told) if isinstance(told, int | float) else None


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of a setting.

    Raises:
        CheckpointError: "cuda" where there is no GPU that torch can use.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise CheckpointError("IONPATH_DEVICE=cuda, but torch finds no GPU; auto or cpu runs without one")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
