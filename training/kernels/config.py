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
class WorldConfig:
    """A corpus with labels and crystals of its own kind.

    Attributes:
        name: as answers give it.
        sources: names of the files that belong to it; those that no world names belong to the first.
        penalty: of the support-vector regressions on its rows.
        views: how much each view counts for it; one that counts nothing is not fitted.
    """

    name: str
    penalty: float
    views: tuple[float, ...]
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LocalConfig:
    """The kernel ridge regression of the errors' size: see WorldMachines.

    Attributes:
        view: the share of every feature group in its metric.
        width, clip: as those of WorldsConfig.
        penalty: of the squared weights.
    """

    view: dict[str, float]
    width: float
    penalty: float
    clip: float


@dataclass(frozen=True, kw_only=True)
class WorldsConfig:
    """Regressions of several worlds: see WorldMachines. Every setting is fixed.

    Attributes:
        worlds: the first one's rows centre and scale the features.
        views: for each view, the share of every feature group in its metric.
        joint_penalty, joint_share: penalty of the regressions on the rows of all worlds, and their weight in the
            answer, every view alike.
        width: of all kernels.
        tolerance, clip: as those of KernelConfig.
        local: of the errors' size; None for linear terms alone.
    """

    worlds: tuple[WorldConfig, ...]
    views: tuple[dict[str, float], ...]
    joint_penalty: float
    joint_share: float
    width: float
    tolerance: float
    clip: float
    local: LocalConfig | None = None


@dataclass(frozen=True, kw_only=True)
class KernelConfig:
    """A run, as its configuration file describes it: of machines and perceptrons, or of worlds.

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
        worlds: in place of machines and networks.
        calibrated_on: the folding whose residuals the served interval is made from.
    """

    name: str
    description: str
    relaxes: bool
    target: TargetTransform
    clip: float
    tolerance: float
    penalties: tuple[float, ...] = ()
    widths: tuple[float, ...] = ()
    machines: tuple[dict[str, float], ...] = ()
    inner_folds: int = 0
    networks: tuple[NetworkConfig, ...] = ()
    worlds: WorldsConfig | None = None
    calibrated_on: str = "fold_random"

    @property
    def local(self) -> LocalConfig | None:
        """The kernel regression of the errors' size, if the run has one."""
        return None if self.worlds is None else self.worlds.local

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return asdict(self)


def kernel_config_path(name_or_path: str) -> Path | None:
    """The file of a kernel run of this name or path; None where there is none."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = CONFIGS / f"kernel-{name_or_path}.toml"
    if path.is_file() and {"machines", "worlds"} & set(tomllib.loads(path.read_text(encoding="utf-8"))):
        return path
    return None


def read_kernel_config(path: Path) -> KernelConfig:
    """Read a configuration.

    Raises:
        KeyError, TypeError: a setting is missing or unknown; the message names it.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    for name in ("penalties", "widths", "machines"):
        content[name] = tuple(content.get(name, ()))
    content["networks"] = tuple(_network(**table) for table in content.get("networks", ()))
    if "worlds" in content:
        of_all = {name: content.pop(name) for name in ("joint_penalty", "joint_share", "width")}
        content["worlds"] = WorldsConfig(
            **of_all,
            worlds=tuple(_world(**table) for table in content["worlds"]),
            views=tuple(content.pop("views")),
            tolerance=content["tolerance"],
            clip=content["clip"],
            local=LocalConfig(**local, clip=content["clip"]) if (local := content.pop("local", None)) else None,
        )
    return KernelConfig(**{**content, "target": TargetTransform(**content["target"])})


def _network(*, groups: list[str], **others: Any) -> NetworkConfig:
    return NetworkConfig(groups=tuple(groups), **others)


def _world(*, name: str, penalty: float, views: list[float], sources: list[str] | None = None) -> WorldConfig:
    return WorldConfig(name=name, penalty=penalty, views=tuple(views), sources=tuple(sources or ()))
