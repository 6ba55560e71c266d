"""What a run is told: a small TOML file, in full in the card that the run writes."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.models.cards import TargetTransform

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How weights are fitted: AdamW on the absolute error of the transformed barrier, one-cycle learning rate."""

    epochs: int
    batch_bands: int
    peak_learning_rate: float
    weight_decay: float
    gradient_norm: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run, as its file says it.

    Attributes:
        name: of the checkpoint.
        network, arguments: as in the card.
        graph: keyword arguments of GraphSpec.
        target: of the labels; constants, so that no fold's labels tell on another's.
        folding, calibration_folds: which folds are fitted out of fold for the metrics and the calibration.
    """

    name: str
    description: str
    network: str
    arguments: dict[str, Any]
    graph: dict[str, Any]
    target: TargetTransform
    folding: str
    calibration_folds: tuple[int, ...]
    fit: FitConfig

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def read_config(name_or_path: str) -> RunConfig:
    """Reads a configuration by its name among the shipped ones, or by a path.

    Raises:
        FileNotFoundError: there is no such file; the message lists the shipped names.
        TypeError: a setting is missing or unknown; the message names it.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = CONFIGS / f"{name_or_path}.toml"
    if not path.is_file():
        raise FileNotFoundError(f"no configuration {name_or_path!r}; shipped are {', '.join(config_names())}")
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    content["calibration_folds"] = tuple(content["calibration_folds"])
    return RunConfig(**{**content, "fit": FitConfig(**content["fit"]), "target": TargetTransform(**content["target"])})


def config_names() -> tuple[str, ...]:
    """Names of the shipped configurations, as the commands take them."""
    return tuple(sorted(path.stem.removeprefix("kernel-") for path in CONFIGS.glob("*.toml")))
