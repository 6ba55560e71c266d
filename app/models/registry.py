"""The registry of models: every checkpoint of the model store, checked and loaded onto the device."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import torch

from app.cores import usable_cores
from app.errors import InputError, NotFoundError
from app.models.allocator import keep_freed_memory
from app.models.cards.card import CARD_FILE, AnyCard, Card, CheckpointError, OtherModel, card_kind
from app.models.cards.conductivity_card import CONDUCTIVITY_KIND
from app.models.cards.property_card import PROPERTIES_KIND
from app.models.checkpoints import read_conductivity_predictor, read_predictor, read_property_predictor
from app.models.networks.message_tables import SharedTables
from app.models.predictors.conductivity_predictor import ConductivityPredictor
from app.models.predictors.parallel_passes import Lanes
from app.models.predictors.predictor import Predictor
from app.models.predictors.property_predictor import PropertyPredictor


class Registry:
    """The checkpoints that can answer, by name.

    Args:
        predictors: one per checkpoint of barriers.
        properties: one per checkpoint of bulk properties.
        conductivities: one per checkpoint of conductivity.
        default: name of the checkpoint used where a request names none.

    Raises:
        CheckpointError: the default checkpoint does not exist.
    """

    def __init__(
        self,
        predictors: dict[str, Predictor],
        *,
        properties: dict[str, PropertyPredictor] | None = None,
        conductivities: dict[str, ConductivityPredictor] | None = None,
        default: str,
    ) -> None:
        if default not in predictors:
            raise CheckpointError(
                f"the default model {default!r} (IONPATH_DEFAULT_MODEL) is not among {', '.join(predictors) or 'none'}"
            )
        self._predictors = predictors
        self._properties = properties or {}
        self._conductivities = conductivities or {}
        self.default_name = default

    @classmethod
    def open(
        cls, store: Path, device: Literal["auto", "cpu", "cuda"] = "auto", *, default: str, threads: int = 0
    ) -> "Registry":
        """Load all checkpoints of a folder.

        Args:
            store: a folder with one folder per checkpoint.
            device: "auto" takes a GPU where there is one.
            default: name of the checkpoint used where a request names none.
            threads: on a CPU; 0 lets torch choose.

        Raises:
            CheckpointError: the folder is missing, a checkpoint is damaged, or the device is not there.
        """
        if not store.is_dir():
            raise CheckpointError(f"the model store {store} (IONPATH_MODEL_STORE) is not a folder")
        chosen = choose_device(device)
        lanes = tables = None
        if chosen.type == "cpu":
            keep_freed_memory()
            lanes = Lanes(threads or usable_cores())
            tables = SharedTables()
        folders = sorted(path.parent for path in store.glob(f"*/{CARD_FILE}"))
        of_properties = [folder for folder in folders if card_kind(folder) == PROPERTIES_KIND]
        of_conductivity = [folder for folder in folders if card_kind(folder) == CONDUCTIVITY_KIND]
        return cls(
            {
                folder.name: read_predictor(folder, device=chosen, lanes=lanes, tables=tables)
                for folder in folders
                if folder not in of_properties and folder not in of_conductivity
            },
            properties={
                folder.name: read_property_predictor(folder, device=chosen, lanes=lanes) for folder in of_properties
            },
            conductivities={folder.name: read_conductivity_predictor(folder) for folder in of_conductivity},
            default=default,
        )

    def names(self) -> tuple[str, ...]:
        """Names of all checkpoints of barriers, in alphabetical order."""
        return tuple(self._predictors)

    def property_names(self) -> tuple[str, ...]:
        """Names of all checkpoints of bulk properties, in alphabetical order."""
        return tuple(self._properties)

    def conductivity_names(self) -> tuple[str, ...]:
        """Names of all checkpoints of conductivity, in alphabetical order."""
        return tuple(self._conductivities)

    def knows_conductivity(self, ion: str) -> bool:
        """Whether there is a model of an ion's conductivity."""
        return any(predictor.card.ion == ion for predictor in self._conductivities.values())

    def conductivity_predictor(self, ion: str) -> ConductivityPredictor:
        """The first predictor of an ion's conductivity.

        Raises:
            InputError: there are such models, of other ions ("ion-without-conductivity").
            NotFoundError: there is none at all ("unknown-model").
        """
        if not self._conductivities:
            raise NotFoundError(
                "there is no model of conductivity",
                kind="unknown-model",
                expected="a model store (IONPATH_MODEL_STORE) that holds one",
            )
        for predictor in self._conductivities.values():
            if predictor.card.ion == ion:
                return predictor
        known = ", ".join(sorted({predictor.card.ion for predictor in self._conductivities.values()}))
        raise InputError(
            f"The conductivity of {ion} is not predicted: the measured conductors are of {known} alone.",
            kind="ion-without-conductivity",
            where="ion",
            expected=f"ion={known}; POST /predict/barrier predicts the barriers of {ion} and how they percolate",
        )

    def property_predictor(self, name: str | None = None) -> PropertyPredictor:
        """The predictor of bulk properties of a name, or the first one.

        Raises:
            InputError: a model of barriers or of conductivity was named ("model-of-other-call").
            NotFoundError: there is none of that name, or none at all; the error lists the existing ones.
        """
        if name in self._predictors:
            raise _of_other_call(name, "barriers", "/predict/barrier", self._properties)
        if name in self._conductivities:
            raise _of_other_call(name, "conductivity", "/predict/conductivity", self._properties)
        predictor = self._properties.get(name or next(iter(self._properties), ""))
        if predictor is None:
            raise NotFoundError(
                f"there is no model {name!r} of bulk properties" if name else "there is no model of bulk properties",
                kind="unknown-model",
                where="model",
                expected=f"one of {', '.join(self._properties)}"
                if self._properties
                else "a model store (IONPATH_MODEL_STORE) that holds one",
            )
        return predictor

    def predictor(self, name: str | None = None) -> Predictor:
        """The predictor of a name, or the default one.

        Raises:
            InputError: a model of bulk properties or of conductivity was named ("model-of-other-call").
            NotFoundError: there is none of that name; the error lists the existing ones.
        """
        if name in self._properties:
            raise _of_other_call(name, "bulk properties", "/predict/properties", self._predictors)
        if name in self._conductivities:
            raise _of_other_call(name, "conductivity", "/predict/conductivity", self._predictors)
        predictor = self._predictors.get(name or self.default_name)
        if predictor is None:
            raise _unknown(name or self.default_name, self._predictors)
        return predictor

    def others(self, name: str) -> tuple[OtherModel, ...]:
        """All other checkpoints, with their cost and error."""
        cards = [predictor.card for other, predictor in self._predictors.items() if other != name]
        return tuple(
            OtherModel(
                name=card.name,
                mae_ev=_mae_ev(card),
                seconds_per_band=self.seconds_per_band(card.name),
            )
            for card in cards
        )

    def seconds_per_band(self, name: str) -> float | None:
        """Seconds for a single band on the machine where the card was written; None where the card has no figure."""
        return _number(self.predictor(name).card.training, "seconds_per_band")

    def card(self, name: str) -> dict[str, Any]:
        """The card of a checkpoint as JSON values, with the digest that its answers carry.

        Raises:
            NotFoundError: there is none of that name; the error lists the existing ones.
        """
        cards: dict[str, AnyCard] = {
            one: predictor.card
            for kind in (self._predictors, self._properties, self._conductivities)
            for one, predictor in kind.items()
        }
        if name not in cards:
            raise _unknown(name, cards)
        card = cards[name]
        return {**card.to_json(), "digest": card.digest}

    def cards(self) -> list[dict[str, Any]]:
        """The cards of all checkpoints, those of barriers first."""
        return [self.card(name) for name in (*self._predictors, *self._properties, *self._conductivities)]


def open_predictor(
    store: Path, name: str, device: Literal["auto", "cpu", "cuda"] = "auto", *, digest: str
) -> Predictor:
    """Load one checkpoint alone, for one thread.

    Args:
        store: as `Registry.open` takes it.
        name: of the checkpoint.
        device: "auto" takes a GPU where there is one.
        digest: that it must have.

    Raises:
        CheckpointError: it is missing or damaged, has another digest, or the device is not there.
    """
    chosen = choose_device(device)
    lanes = tables = None
    if chosen.type == "cpu":
        keep_freed_memory()
        lanes = Lanes(1)
        tables = SharedTables()
    predictor = read_predictor(store / name, device=chosen, lanes=lanes, tables=tables)
    _check_digest(store, name, predictor.digest, digest)
    return predictor


def open_conductivity_predictor(store: Path, name: str, *, digest: str) -> ConductivityPredictor:
    """Load one checkpoint of conductivity alone.

    Args:
        store: as `Registry.open` takes it.
        name: of the checkpoint.
        digest: that it must have.

    Raises:
        CheckpointError: it is missing or damaged, or has another digest.
    """
    predictor = read_conductivity_predictor(store / name)
    _check_digest(store, name, predictor.digest, digest)
    return predictor


def _check_digest(store: Path, name: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise CheckpointError(
            f"the checkpoint {name} in {store} has the digest {found[:12]}, and {wanted[:12]} is asked for: every "
            "machine needs the same model store"
        )


def _unknown(name: str, here: Collection[str]) -> NotFoundError:
    return NotFoundError(
        f"there is no model {name!r}", kind="unknown-model", where="model", expected=f"one of {', '.join(here)}"
    )


def _of_other_call(name: str, what: str, call: str, here: Collection[str]) -> InputError:
    return InputError(
        f"the model {name!r} predicts {what}, at POST {call}, not here",
        kind="model-of-other-call",
        where="model",
        expected=f"one of {', '.join(here)}, or none" if here else f"POST {call}",
    )


def _mae_ev(card: Card) -> float | None:
    """The mean error in random folds, or in those by chemistry where the card has no others."""
    found = (
        _number(card.metrics, folding, "sound", "mae_ev", "value") for folding in ("fold_random", "fold_chemistry")
    )
    return next((one for one in found if one is not None), None)


def _number(value: object, *path: str) -> float | None:
    """A number in a card by its path of keys; None where it is missing."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of a setting.

    Raises:
        CheckpointError: "cuda" where there is no GPU that torch can use.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise CheckpointError("IONPATH_DEVICE=cuda, but torch finds no GPU; auto or cpu runs without one")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
