"""What is asked of a screening: the same for every crystal, compared when a run goes on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from app.crystals.hops.options import HopOptions
from app.crystals.limits import Limits
from app.models.prediction import INTERVAL_COVERAGE

#: Of the tables and run.json; raised where a column comes, goes or changes its meaning. 2: conductivities;
#: 3: `ranking_ev`, and no `climb_ev`.
SCHEMA_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class ConductivityChoice:
    """The checkpoint that predicts conductivities.

    Attributes:
        name: of the checkpoint, in the same store as that of barriers.
        digest: what a machine's checkpoint must have.
    """

    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """The checkpoints that answer.

    Attributes:
        store: folder of checkpoints; every machine of a cluster has the same.
        name: of the checkpoint.
        digest: what a machine's checkpoint must have.
        device: where it runs.
        conductivity: of the ions' conductivity; None where the store has none of any of them.
    """

    store: Path
    name: str
    digest: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    conductivity: ConductivityChoice | None = None


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of each crystal.

    Attributes:
        ions: element symbols; each is asked of every crystal.
        only_present: leave out the ions that a crystal does not hold, and fail one that holds none of them.
        hops: which hops, and how.
        limits: how large a crystal may be.
        threshold_ev: a good conductor's barrier is below it.
        timeout_s: most seconds for a crystal and ion.
        memory_mib: most memory of the process that reads a crystal.
    """

    ions: tuple[str, ...]
    hops: HopOptions
    limits: Limits
    threshold_ev: float
    only_present: bool = False
    timeout_s: float = 60.0
    memory_mib: int = 4096


@dataclass(frozen=True, kw_only=True)
class Job:
    """A screening.

    Attributes:
        inputs: what was named on the command line.
        limit: most inputs; None takes all.
        shuffle: seed of a random order; None keeps the inputs' own.
        workers: processes that predict; None takes a core each, on a cluster all of it.
        ray_address: of a cluster; None starts Ray on this machine.
        save_every_s: rows are written so often, seconds.
    """

    inputs: tuple[str, ...]
    output: Path
    question: Question
    model: ModelChoice
    limit: int | None = None
    shuffle: int | None = None
    workers: int | None = None
    ray_address: str | None = None
    save_every_s: float = 20.0

    def settings(self) -> dict[str, Any]:
        """What the rows depend on, as run.json has it; a run that goes on must have the same."""
        return {
            "inputs": [str(one) if "://" in one else Path(one).resolve().as_posix() for one in self.inputs],
            "limit": self.limit,
            "shuffle": self.shuffle,
            "ions": list(self.question.ions),
            "only_present": self.question.only_present,
            **{f"hops.{name}": value for name, value in asdict(self.question.hops).items()},
            **{f"limits.{name}": value for name, value in asdict(self.question.limits).items()},
            "threshold_ev": self.question.threshold_ev,
            "timeout_s": self.question.timeout_s,
            "memory_mib": self.question.memory_mib,
            "interval_coverage": INTERVAL_COVERAGE,
            "model": self.model.name,
            "model_digest": self.model.digest,
            "conductivity_model": None if self.model.conductivity is None else self.model.conductivity.name,
            "conductivity_digest": None if self.model.conductivity is None else self.model.conductivity.digest,
            "schema_version": SCHEMA_VERSION,
        }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the settings of two runs, one phrase each."""
    return [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
