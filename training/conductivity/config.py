"""The configuration of a conductivity model: a small TOML file, copied in full into the card."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.config import CONFIGS


@dataclass(frozen=True, kw_only=True)
class ConductivityConfig:
    """A run, as its configuration file describes it.

    Attributes:
        name, description: of the checkpoint.
        ion: that conducts.
        temperature_kelvin: of the measurements.
        signs: of each descriptor, 1 where physics lets the conductivity rise with it and -1 where it falls.
        ridge: penalty of the linear part's coefficients, in rows.
        floor_log10: values below count as this in the linear part: below it a measurement is an extrapolation.
        quadratic_below: residuals smaller than this, in decades, enter the linear loss squared.
        clip, length, volume_weight, descriptor_weight: see ConductorRegression.
        noise: variance of a measurement relative to the kernel's.
        most_novelty: a crystal of more is out of the domain.
    """

    name: str
    description: str
    ion: str
    temperature_kelvin: float
    signs: dict[str, int]
    ridge: float
    floor_log10: float
    quadratic_below: float
    clip: float
    length: float
    volume_weight: float
    descriptor_weight: float
    noise: float
    most_novelty: float

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return asdict(self)


def conductivity_config_path(name_or_path: str) -> Path | None:
    """The file of a conductivity model of this name or path; None where there is none."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = CONFIGS / f"{name_or_path}.toml"
    if path.is_file() and "signs" in tomllib.loads(path.read_text(encoding="utf-8")):
        return path
    return None


def read_conductivity_config(path: Path) -> ConductivityConfig:
    """Read a configuration.

    Raises:
        TypeError: a setting is missing or unknown; the message names it.
    """
    return ConductivityConfig(**tomllib.loads(path.read_text(encoding="utf-8")))
