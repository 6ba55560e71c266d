"""The configuration of a run: a small TOML file, copied in full into the card that the run writes."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.models.cards.card import TargetTransform
from training.corpus import LITERATURE

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of a fit: AdamW on the absolute error of the transformed target, one-cycle learning rate.

    Attributes:
        trunk_rate_factor: the trunk's peak learning rate divided by that of all other weights.
        frozen: prefixes of the names of weights that are not changed, such as "trunk.".
        patience: number of epochs without a better validation loss after which a run ends; 0 runs all epochs.
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
    """A run, as its configuration file describes it.

    Attributes:
        name: of the checkpoint.
        network, arguments: as in the card.
        graph: keyword arguments of GraphSpec.
        target: the transform of the labels; constants, so that no information leaks from one fold into another.
        sources: the corpora that are fitted together; empty for all of the data folder.
        folding, calibration_folds: the folding, and the folds that are held out in turn for the metrics and the
            calibration.
        batch_bands: approximate number of bands in a batch.
        pretrained: the checkpoint whose trunk is copied, such as "mpt"; an empty string starts from random weights.
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
    sources: tuple[str, ...] = (LITERATURE,)

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return asdict(self)


def read_config(name_or_path: str) -> RunConfig:
    """Read a configuration by its name among the shipped ones, or by a path.

    Raises:
        FileNotFoundError: there is no such file; the message lists the shipped configurations.
        TypeError: a setting is missing or unknown; the message names it.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = CONFIGS / f"{name_or_path}.toml"
    if not path.is_file():
        shipped = ", ".join(config_names())
        raise FileNotFoundError(f"there is no configuration {name_or_path!r}; the shipped ones are {shipped}")
    content = _with_base(path)
    for name in {"calibration_folds", "sources"} & set(content):
        content[name] = tuple(content[name])
    return RunConfig(**{**content, "fit": FitConfig(**content["fit"]), "target": TargetTransform(**content["target"])})


def _with_base(path: Path) -> dict[str, Any]:
    """A file merged over the one that its `base` names, in the same folder."""
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
    """Names of the shipped configurations, as the commands take them; files that begin with _ are bases of others."""
    return tuple(sorted(path.stem.removeprefix("kernel-") for path in CONFIGS.glob("[!_]*.toml")))
