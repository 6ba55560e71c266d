"""The configuration of a run of kernel machines: a small TOML file, copied in full into the card."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.models.cards.card import TargetTransform
from training.config import CONFIGS


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Perceptrons that are averaged with the machines: see DescriptorNetworks.

    Attributes:
        groups: the feature groups that they read.
        hidden, members, input_dropout, dropout: see DescriptorNetworks.
        epochs: passes over the fitted rows.
        batch_rows: rows per step.
        learning_rate: the peak of the cycle, which ends at zero.
        weight_decay: of the weights; biases have none.
        quadratic_below: errors smaller than this, in transformed units, enter the loss squared.
        seed: of the initial weights, the order of rows and dropout.
    """

    groups: tuple[str, ...]
    hidden: int
    members: int
    input_dropout: float
    dropout: float
    epochs: int
    batch_rows: int
    learning_rate: float
    weight_decay: float
    quadratic_below: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class KernelConfig:
    """A run, as its configuration file describes it.

    Attributes:
        name, description: of the checkpoint.
        relaxes: whether any machine reads the features of a relaxation.
        target: the transform of the labels; constants, so that no information leaks from one fold into another.
        clip: see KernelMachine.
        tolerance: of the support-vector regression, in transformed units: smaller errors cost nothing.
        penalties, widths: the grid searched for each machine inside the training folds.
        machines: for each machine, the share of every feature group in its metric.
        networks: perceptrons, each averaged as one machine.
        inner_folds: number of parts into which the training folds are divided for that search.
    """

    name: str
    description: str
    relaxes: bool
    target: TargetTransform
    clip: float
    tolerance: float
    penalties: tuple[float, ...]
    widths: tuple[float, ...]
    machines: tuple[dict[str, float], ...]
    inner_folds: int
    networks: tuple[NetworkConfig, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return asdict(self)


def kernel_config_path(name_or_path: str) -> Path | None:
    """The file of a kernel run of this name or path; None where there is none."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = CONFIGS / f"kernel-{name_or_path}.toml"
    if path.is_file() and "machines" in tomllib.loads(path.read_text(encoding="utf-8")):
        return path
    return None


def read_kernel_config(path: Path) -> KernelConfig:
    """Read a configuration.

    Raises:
        TypeError: a setting is missing or unknown; the message names it.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    for name in ("penalties", "widths", "machines"):
        content[name] = tuple(content[name])
    content["networks"] = tuple(_network(**table) for table in content.get("networks", ()))
    return KernelConfig(**{**content, "target": TargetTransform(**content["target"])})


def _network(*, groups: list[str], **others: Any) -> NetworkConfig:
    return NetworkConfig(groups=tuple(groups), **others)
