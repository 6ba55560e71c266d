"""Where a crystal's milliseconds go, now and at an earlier commit: one core each, the same crystals in turns.

Run it with `python -m benchmarks.crystal_stages --before COMMIT`. It checks the commit out into a temporary folder,
starts a process on its code and one on this, both with its checkpoints, and gives every batch of crystals to both, so
that whatever else the machine does meets both alike. Seconds are CPU time. Hops and barriers of the two are compared.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.table import Table

from app.crystals.limits import Limits
from app.crystals.readers import read_crystal
from app.crystals.readers.reading import File
from app.errors import IonpathError

ROOT = Path(__file__).resolve().parents[1]
#: Simple crystals have at most this many atoms, all in full.
SIMPLE_ATOMS = 28
SEED = 20
#: Barriers that differ by more are named.
SAME_EV = 1e-6
WANTED = 2.0
ALONE, TOGETHER = "forward, each crystal alone", "forward, all together"
#: What says where a hop is, of `crystal_worker`'s lists: both sites, offset and multiplicity.
_PLACES = 4
Crystals = list[dict[str, str]]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", required=True, help="the commit that is compared with")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IONPATH_DATA_DIR", "../shared/data")))
    parser.add_argument("--simple", type=int, default=120, help="simple ordered crystals of the screening set")
    parser.add_argument("--experimental", type=int, default=60, help="CIFs of measured conductors, mostly disordered")
    parser.add_argument("--batch", type=int, default=16, help="crystals that share forward passes")
    parser.add_argument(
        "--same-hops",
        action="store_true",
        help="do all again with the crystals alone of which both find the same hops, whatever they doubt",
    )
    arguments = parser.parse_args()
    sets = {
        f"simple ordered crystals, at most {SIMPLE_ATOMS} atoms": simple_crystals(arguments.data, arguments.simple),
        "CIFs of measured conductors": experimental_crystals(arguments.data, arguments.experimental),
    }
    with ExitStack() as stack:
        before = stack.enter_context(checked_out(arguments.before))
        pair = [stack.enter_context(Worker(root, before / "model_store")) for root in (before, ROOT)]
        for title, crystals in sets.items():
            if not crystals:
                continue
            found = compare(pair, crystals, arguments.batch)
            report(title, found, arguments.before)
            if arguments.same_hops and (same := [one for one in crystals if one["name"] in found.same_hops]):
                report(f"{title}, with the same hops", compare(pair, same, arguments.batch), arguments.before)


def simple_crystals(data: Path, count: int) -> Crystals:
    """Crystals of the screening set, drawn at random."""
    texts = _members(data / "screening" / "crystals.tar.xz")
    names = sorted(texts)
    random.Random(SEED).shuffle(names)
    chosen: Crystals = []
    for name in names:
        if len(chosen) == count:
            break
        ion, _, file = name.partition("/")
        try:
            crystal = read_crystal(File(name=file, content=texts[name]), Limits(), ion)
        except IonpathError:
            continue
        if len(crystal.sites) <= SIMPLE_ATOMS and all(site.is_ordered for site in crystal.sites):
            chosen.append({"name": file, "text": texts[name].decode(), "ion": ion})
    return chosen


def experimental_crystals(data: Path, count: int) -> Crystals:
    """CIFs of measured lithium conductors, drawn at random."""
    texts = _members(data / "conductivity" / "cifs.tar.xz")
    names = sorted(texts)
    random.Random(SEED).shuffle(names)
    return [{"name": name, "text": texts[name].decode(errors="replace"), "ion": "Li"} for name in names[:count]]


def _members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as files:
        return {one.name: found.read() for one in files if (found := files.extractfile(one)) is not None}


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder with the code of a commit."""
    worktree = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        subprocess.run([*worktree, "add", "--quiet", "--detach", tree, commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*worktree, "remove", "--force", tree], check=True)


class Worker:
    """A process that answers crystals with the code of a folder and the checkpoints of a model store."""

    def __init__(self, root: Path, store: Path) -> None:
        self._root, self._store = root, store

    def __enter__(self) -> Self:
        command = [sys.executable, str(ROOT / "benchmarks" / "crystal_worker.py"), str(self._store)]
        environment = {**os.environ, "PYTHONPATH": str(self._root), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self._root
        )
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.terminate()

    def answer(self, crystals: Sequence[dict[str, str]]) -> dict[str, Any]:
        """What `crystal_worker.answered` gives."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(crystals) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@dataclass(kw_only=True)
class Comparison:
    """What two commits took for some crystals, and where their answers differ.

    Attributes:
        count: of the crystals.
        stages_s: CPU seconds by stage, before and now.
        greatest_ev: the largest difference between barriers of one band.
        differences: crystals with other hops, refusals or barriers.
        same_hops: names of crystals of which as many bands are predicted, of the same hops.
    """

    count: int
    stages_s: tuple[dict[str, float], dict[str, float]] = field(default_factory=lambda: ({}, {}))
    greatest_ev: float = 0.0
    bands: int = 0
    differences: list[str] = field(default_factory=list)
    same_hops: set[str] = field(default_factory=set)


def compare(pair: Sequence[Worker], crystals: Crystals, batch: int) -> Comparison:
    """Give every batch to both workers; the first crystal once more beforehand, which loads and tabulates."""
    found = Comparison(count=len(crystals))
    for worker in pair:
        worker.answer(crystals[:1])
    for start in range(0, len(crystals), batch):
        chunk = crystals[start : start + batch]
        answers = [worker.answer(chunk) for worker in pair]
        for total, answer in zip(found.stages_s, answers, strict=True):
            for stage, seconds in answer["stages_s"].items():
                total[stage] = total.get(stage, 0.0) + seconds
        for crystal, old, new in zip(chunk, *(answer["results"] for answer in answers), strict=True):
            _compare_one(found, crystal["name"], old, new)
    return found


def _compare_one(found: Comparison, name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    if "problem" in old or "problem" in new:
        if old != new:
            found.differences.append(f"{name}: {old.get('problem', 'answered')}; now {new.get('problem', 'answered')}")
        return
    if old["hops"] != new["hops"]:
        other = [(one, two) for one, two in zip(old["hops"], new["hops"], strict=False) if one != two][:1]
        found.differences.append(f"{name}: {len(old['hops'])} hops and {len(new['hops'])} now, the first other {other}")
    if len(old["barriers_ev"]) != len(new["barriers_ev"]):
        return
    if [one[:_PLACES] for one in old["hops"]] == [one[:_PLACES] for one in new["hops"]]:
        found.same_hops.add(name)
    found.bands += len(new["barriers_ev"])
    apart = max((abs(one - two) for one, two in zip(old["barriers_ev"], new["barriers_ev"], strict=True)), default=0.0)
    found.greatest_ev = max(found.greatest_ev, apart)
    if apart > SAME_EV:
        found.differences.append(f"{name}: a barrier moved by {apart:.1e} eV")


def report(title: str, found: Comparison, before: str) -> None:
    """Print a table of stages, and where answers differ."""
    console = Console(width=120)
    table = Table(title=f"{found.count} {title}: ms of CPU a crystal")
    for heading in ("stage", before, "now", "times faster"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    stages = found.stages_s[0] | found.stages_s[1]  # one that came later takes nothing before
    rows = [(stage, [one.get(stage, 0.0) for one in found.stages_s]) for stage in stages]
    for way in (ALONE, TOGETHER):
        other = TOGETHER if way == ALONE else ALONE
        sums = [sum(s for stage, s in one.items() if stage != other) for one in found.stages_s]
        rows.append((f"all, {way}", sums))
    for stage, (old, new) in rows:
        table.add_row(
            stage, f"{1e3 * old / found.count:.1f}", f"{1e3 * new / found.count:.1f}", f"{old / max(new, 1e-9):.2f}"
        )
    console.print(table)
    console.print(f"wanted of all: {WANTED:g} times; bands compared: {found.bands}; ", end="")
    console.print(f"barriers move by {found.greatest_ev:.1e} eV at most; crystals with other answers:")
    console.print("\n".join(found.differences) or "none", markup=False)


if __name__ == "__main__":
    main()
