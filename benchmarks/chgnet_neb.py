"""Barriers by CHGNet NEBs against the served default, on the same bands, the same machine and in one run.

Run it with `python -m benchmarks.chgnet_neb`. A NEB is what a user of the chgnet package would run: its ASE
calculator with CHGNet 0.3.0, both end points relaxed in the fixed cell, five images joined by interpolation, a plain
band and then a climbing one, all to the same force. Cells are small, or a band would take too long: this favours the
NEB, whose cost grows with all of the cell's atoms, where the default's does not.

The served checkpoint was fitted on these bands, so its error on them says little. Beside it stand its out-of-fold
answers, by machines and perceptrons refitted here without the band's fold (fold_chemistry: without its whole chemical
system).

NEBs take hours: `--keep FILE` writes each as it ends, and a later run takes those of the file as they are. Times are
CPU seconds, on both sides, so that work beside it counts for neither; on one core they are what a clock shows.
"""

import argparse
import contextlib
import json
import os
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.mep import NEB
from ase.optimize import FIRE
from chgnet.model.dynamics import CHGNetCalculator
from chgnet.model.model import CHGNet
from rich.console import Console
from rich.table import Table

from app.cores import usable_cores
from app.crystals.band import Band, model_band
from app.models.predictors.predictor import Predictor
from app.models.registry import Registry
from benchmarks.throughput import STORE
from training.corpus import FOLDINGS, Corpus, Record, read_corpus
from training.kernels.config import kernel_config_path, read_kernel_config
from training.kernels.run import KernelRun

IMAGES = 5
MOST_ATOMS = 69
FORCE_EV_ANGSTROM = 0.1
SPRING_EV_ANGSTROM2 = 5.0


@dataclass(frozen=True, kw_only=True)
class NebBarrier:
    """What a NEB came to.

    Attributes:
        barrier_ev: the highest image above the lower of the two relaxed ends.
        seconds: of CPU.
        converged: whether every stage came under the force within its steps.
    """

    barrier_ev: float
    seconds: float
    converged: bool


#: A row of the corpus, its NEB, the default's answer in eV, and the seconds that took.
Compared = tuple[int, NebBarrier, float, float]


def main() -> None:
    """Run from the command line; Ctrl-C ends it with what was compared so far."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IONPATH_DATA_DIR", "../shared/data")))
    parser.add_argument("--bands", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=200, help="the most of each stage: each end, band, climbing band")
    parser.add_argument("--atoms", type=int, default=MOST_ATOMS, help="the most of a cell, the ion among them")
    parser.add_argument("--minutes", type=float, help="start no further NEB after this time")
    parser.add_argument("--keep", type=Path, help="a file of NEBs that have been run, as JSON lines, to go on from")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="chgnet|pymatgen|torch")
    console = Console(width=110)
    corpus = read_corpus(arguments.data)
    rows = chosen_rows(corpus, arguments.bands, arguments.seed, arguments.atoms)
    out_of_fold = out_of_fold_ev(corpus, console)
    default = Registry.open(STORE, "cpu", default="default").predictor()
    default.warm_up()
    torch.set_num_threads(usable_cores())  # the registry left one; a NEB alone takes all that it can
    calculator = CHGNetCalculator(CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False), use_device="cpu")
    kept = kept_barriers(arguments.keep, arguments.steps)
    compared: list[Compared] = []
    started, run_here = time.monotonic(), 0
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends an hour's run with what it has
        for number in rows:
            record = corpus.records[number]
            neb = kept.get(record.id)
            if neb is None:
                spent = (time.monotonic() - started) / 60
                if arguments.minutes is not None and run_here and spent > arguments.minutes:
                    continue
                neb = neb_barrier(record.band, calculator, arguments.steps)
                run_here += 1
                keep(arguments.keep, record, neb, arguments.steps)
            answer_ev, seconds = timed_answer(default, record.band)
            compared.append((number, neb, answer_ev, seconds))
            console.print(f"{len(compared)} of {len(rows)}: {described(record, neb, seconds)}")
    if len(compared) < len(rows):
        console.print(f"{len(rows) - len(compared)} bands were not run")
    if compared:
        report(console, corpus, compared, out_of_fold, arguments.steps)


def kept_barriers(path: Path | None, steps: int) -> dict[str, NebBarrier]:
    """The NEBs of a file that were let go on for as many steps, by the record's id; none where there is no file yet."""
    if path is None or not path.exists():
        return {}
    kept = {}
    for text in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # an empty line, or one that was cut when the run was killed
            line = json.loads(text)
            if line["steps"] == steps:
                kept[line["id"]] = NebBarrier(**line["neb"])
    return kept


def keep(path: Path | None, record: Record, neb: NebBarrier, steps: int) -> None:
    if path is not None:
        with path.open("a") as file:
            file.write("\n" + json.dumps({"id": record.id, "steps": steps, "neb": asdict(neb)}) + "\n")


def chosen_rows(corpus: Corpus, count: int, seed: int, most_atoms: int) -> list[int]:
    """A seeded choice of sound bands in small cells, as places in the corpus."""
    small = [
        number for number, record in enumerate(corpus.records) if record.sound and record.band.atom_count <= most_atoms
    ]
    order = np.random.default_rng(seed).permutation(len(small))
    return [small[place] for place in order[:count]]


def out_of_fold_ev(corpus: Corpus, console: Console) -> dict[str, np.ndarray]:
    """The default's answers without each band's fold, by folding, shape [n_rows], eV."""
    path = kernel_config_path("default")
    assert path is not None
    with tempfile.TemporaryDirectory() as folder:
        console.print("describing all bands and refitting without each fold: some seven minutes")
        run = KernelRun(read_kernel_config(path), corpus, Path(folder), processes=1, report=lambda _: None)
        return {folding: run.barriers_ev(run.out_of_fold(folding).judged.outputs) for folding in FOLDINGS}


def timed_answer(predictor: Predictor, band: Band) -> tuple[float, float]:
    """The answer to one uncached band, eV, and the CPU seconds that it took."""
    started = time.process_time()
    (prediction,) = predictor.predict([predictor.graph(band)])
    return prediction.barrier_ev, time.process_time() - started


def neb_barrier(band: Band, calculator: CHGNetCalculator, steps: int) -> NebBarrier:
    """Relaxes the ends, then the band, then the climbing band."""
    started = time.process_time()
    first, *_, last = structures(band)
    converged = True
    for end in (first, last):
        end.calc = calculator
        optimizer = FIRE(end, logfile=None)
        converged &= bool(optimizer.run(fmax=FORCE_EV_ANGSTROM, steps=steps))
    images = [first, *(first.copy() for _ in range(IMAGES - 2)), last]
    for image in images[1:-1]:
        image.calc = calculator
    neb = NEB(images, k=SPRING_EV_ANGSTROM2, method="improvedtangent", allow_shared_calculator=True)
    neb.interpolate(mic=False)  # the relaxed ends are unwrapped: the longer way round stays the longer way
    for climb in (False, True):
        neb.climb = climb
        optimizer = FIRE(neb, logfile=None)
        reached = bool(optimizer.run(fmax=FORCE_EV_ANGSTROM, steps=steps))
    energies = np.array([image.get_potential_energy() for image in images])
    return NebBarrier(
        barrier_ev=float(energies.max() - energies[[0, -1]].min()),
        seconds=time.process_time() - started,
        converged=converged and reached,
    )


def structures(band: Band) -> list[Atoms]:
    """The band's five images, the ion first, unwrapped."""
    band = model_band(band)
    return [
        Atoms(
            symbols=[band.ion, *band.host_species],
            positions=np.vstack([image, band.host_frac_coords]) @ band.lattice_angstrom,
            cell=band.lattice_angstrom,
            pbc=True,
        )
        for image in band.image_frac_coords
    ]


def described(record: Record, neb: NebBarrier, seconds: float) -> str:
    state = "" if neb.converged else ", not converged"
    return (
        f"{record.id}, {record.band.atom_count} atoms: NEB {neb.barrier_ev:.2f} eV in {neb.seconds:.0f} s{state}; "
        f"default {1e3 * seconds:.0f} ms; label {record.barrier_ev:.2f} eV"
    )


def report(
    console: Console,
    corpus: Corpus,
    compared: list[Compared],
    out_of_fold: dict[str, np.ndarray],
    steps: int,
) -> None:
    """Prints seconds and errors, and how many times the CPU a NEB takes."""
    rows = np.array([number for number, *_ in compared])
    labels = corpus.barriers_ev[rows]
    nebs = [neb for _, neb, *_ in compared]
    neb_ev, neb_s = np.array([neb.barrier_ev for neb in nebs]), np.array([neb.seconds for neb in nebs])
    answers_ev, answer_s = np.array([row[2] for row in compared]), np.array([row[3] for row in compared])
    atoms = [corpus.records[number].band.atom_count for number in rows]
    table = Table(
        title=f"{len(rows)} sound bands of {min(atoms)} to {max(atoms)} atoms, {usable_cores()} cores, no GPU; "
        f"NEB: {IMAGES} images, {FORCE_EV_ANGSTROM:g} eV/angstrom, at most {steps} steps a stage"
    )
    for heading in ("", "median CPU s", "mean CPU s", "MAE eV", "median error eV"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row("CHGNet 0.3.0 NEB", *figures(neb_s), *errors(neb_ev, labels))
    for folding, values in out_of_fold.items():
        table.add_row(f"default, out of fold ({folding})", *figures(answer_s), *errors(values[rows], labels))
    table.add_row("default as served (has seen these bands)", *figures(answer_s), *errors(answers_ev, labels))
    console.print(table)
    ratio = neb_s / answer_s
    console.print(
        f"a NEB takes {neb_s.sum() / answer_s.sum():.0f} times the CPU in all (a band: median {np.median(ratio):.0f}, "
        f"least {ratio.min():.0f}); {sum(neb.converged for neb in nebs)} of {len(nebs)} NEBs converged"
    )


def figures(seconds: np.ndarray) -> tuple[str, str]:
    return f"{np.median(seconds):.3g}", f"{seconds.mean():.3g}"


def errors(values_ev: np.ndarray, labels_ev: np.ndarray) -> tuple[str, str]:
    off = np.abs(values_ev - labels_ev)
    return f"{off.mean():.3f}", f"{np.median(off):.3f}"


if __name__ == "__main__":
    main()
