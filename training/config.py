"""What a run is told: a small TOML file, in full in the card that the run writes."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.models.cards import TargetTransform

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How weights are fitted: AdamW on the absolute error of the transformed target, one-cycle learning rate.

    Attributes:
        trunk_rate_factor: the trunk's peak learning rate over that of everything else.
        frozen: weights whose names begin so stay as they were, such as "trunk.".
        patience: epochs without a better validation loss that end a run; 0 runs them all.
    """

    epochs: int
    peak_learning_rate: float
    weight_decay: float
    gradient_norm: float
    seed: int
    trunk_rate_factor: float = 1.0
    frozen: tuple[str, ...] = ()
    patience: int = 0


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run, as its file says it.

    Attributes:
        name: of the checkpoint.
        network, arguments: as in the card.
        graph: keyword arguments of GraphSpec.
        target: of the labels; constants, so that no fold's labels tell on another's.
        folding, calibration_folds: which folds are fitted out of fold for the metrics and the calibration.
        batch_bands: bands in a batch, about.
        pretrained: the checkpoint whose trunk is copied, such as "mpt"; none starts from random weights.
    """

    name: str
    description: str
    network: str
    arguments: dict[str, Any]
    graph: dict[str, Any]
    target: TargetTransform
    folding: str
    calibration_folds: tuple[int, ...]
    batch_bands: int
    fit: FitConfig
    pretrained: str = ""

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
    content = _with_base(path)
    content["calibration_folds"] = tuple(content["calibration_folds"])
    return RunConfig(**{**content, "fit": FitConfig(**content["fit"]), "target": TargetTransform(**content["target"])})


def _with_base(path: Path) -> dict[str, Any]:
    """A file over the one beside it that its `base` names: each says only what is its own."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    base = content.pop("base", None)
    return content if base is None else _merged(_with_base(path.with_name(f"{base}.toml")), content)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        result[key] = _merged(below[key], value) if both else value
    return result


def config_names() -> tuple[str, ...]:
    """Names of the shipped configurations, as the commands take them; a file that begins with _ is a base of others."""
    return tuple(sorted(path.stem.removeprefix("kernel-") for path in CONFIGS.glob("[!_]*.toml")))
