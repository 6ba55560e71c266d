"""A screening of parts that are slow to read, run as a script: prints the most that were read at the same time."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.crystals.hops.options import HopOptions
from app.crystals.limits import Limits
from app.models.cards.card import read_card
from app.screening.job import Job, ModelChoice, Question
from app.screening.ray_sessions import ray_session
from app.screening.sources.items import Item
from app.settings import Settings

PARTS, WORKERS, READING_S = 8, 2, 2.0


@dataclass(frozen=True)
class SlowPart:
    """One item that says why it could not be read; writes down when it was read."""

    folder: Path
    number: int
    count: int = 1

    def read(self) -> Iterator[Item]:
        began_s = time.time()
        time.sleep(READING_S)
        (self.folder / str(self.number)).write_text(f"{began_s} {time.time()}")
        yield Item(input=f"{self.number}.cif", name=f"{self.number}.cif", content=b"", problem="It is not there.")


def main() -> None:
    """Read all parts, and print the most that were read at the same time and how many inputs were done."""
    folder = Path(sys.argv[1])
    settings = Settings()
    store = settings.model_store
    job = Job(
        inputs=(),
        output=folder,
        question=Question(ions=("Li",), hops=HopOptions(), limits=Limits(), threshold_ev=0.65),
        model=ModelChoice(store=store, name="default", digest=read_card(store / "default").digest, device="cpu"),
    )
    with ray_session(None, WORKERS) as machines:
        from app.screening.on_ray import screened  # noqa: PLC0415 # after Ray's environment is prepared

        parts = [SlowPart(folder, number) for number in range(PARTS)]
        done = [name for batch in screened(job, parts, machines) for name in batch.inputs]
    times = [tuple(map(float, path.read_text().split())) for path in folder.iterdir() if path.name.isdecimal()]
    together = max(sum(one[0] <= began < one[1] for one in times) for began, _ in times)
    sys.stdout.write(f"{together} {len(set(done))}\n")


if __name__ == "__main__":
    main()
