"""The configuration of a pre-training: a small TOML file, copied in full into the card that it writes."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.config import CONFIGS, FitConfig
from training.pretraining.properties import PROPERTIES


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """A pre-training, as its configuration file describes it.

    Attributes:
        name: of the checkpoint.
        properties: which to fit, in the order of the network's outputs.
        trunk, head: as MultiProperty takes them.
        graph: keyword arguments of GraphSpec.
        most_atoms: larger crystals are not fitted; 0 fits all. Validation and test rows are never left out.
        batch_line_edges: edges of line graphs in a batch, which bounds its memory and time.
        balance: 0 weights every value equally, 1 every property equally; values between interpolate.
    """

    name: str
    description: str
    properties: tuple[str, ...]
    trunk: dict[str, int | bool]
    head: tuple[int, ...]
    graph: dict[str, Any]
    most_atoms: int
    batch_line_edges: int
    balance: float
    fit: FitConfig

    def __post_init__(self) -> None:
        if unknown := set(self.properties) - set(PROPERTIES):
            known = ", ".join(PROPERTIES)
            raise ValueError(f"unknown properties {', '.join(sorted(unknown))}; the known ones are {known}")

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return asdict(self)


def pretraining_config_path(name_or_path: str, size: str) -> Path | None:
    """The file of a pre-training by its model's name and size, or by a path; None where it is of another kind."""
    path = Path(name_or_path) if name_or_path.endswith(".toml") else CONFIGS / f"{name_or_path}-{size}.toml"
    if not path.is_file():
        return None
    return path if "properties" in tomllib.loads(path.read_text(encoding="utf-8")) else None


def read_pretraining_config(path: Path) -> PretrainingConfig:
    """Read a configuration.

    Raises:
        TypeError, ValueError: a setting is missing, unknown or invalid; the message names it.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    return PretrainingConfig(
        **{
            **content,
            "properties": tuple(content["properties"]),
            "head": tuple(content["head"]),
            "fit": FitConfig(**content["fit"]),
        }
    )
