"""The feature groups of every band of a corpus, computed once and kept on disk."""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from app.crystals.band import Band
from app.models.allocator import keep_freed_memory
from app.models.networks.chgnet import Chgnet
from app.models.networks.hop_kernel import HopKernel
from app.models.networks.message_tables import MessageTables
from app.models.predictors.kernel_predictor import feature_groups as hop_groups
from app.models.predictors.preparation import hop_inputs
from app.models.predictors.relaxation import RelaxedBand, band_structure, relax
from app.models.predictors.relaxed_descriptors import relaxed_descriptors
from training import editions
from training.corpus import Corpus
from training.potentials import POTENTIAL, published_chgnet

Groups = dict[str, np.ndarray]
Report = Callable[[str], None]

#: A group with the closest approach of the ion to a host atom, shape [n_rows, 1], angstrom; no machine reads it.
CLOSEST_APPROACH = "closest_approach_angstrom"

_BANDS_AT_ONCE = 16
_RELAXED_FIELDS = ("energy_ev", "ion_shift_angstrom", "greatest_shift_angstrom", "greatest_force")


def feature_groups(
    corpus: Corpus, potential: Chgnet, folder: Path, *, relaxes: bool, processes: int, report: Report
) -> Groups:
    """Every group by its name, each of shape [n_rows, its features].

    Args:
        corpus: the labelled bands.
        potential: describes the ion, and relaxes.
        folder: where features are kept; a call computes only what is missing.
        relaxes: whether the group "relaxed" is wanted: minutes of forces, where the others take seconds.
        processes: number of parallel relaxations, one thread each.
        report: called with messages on progress.
    """
    described = editions.short_digest(corpus.sha256, POTENTIAL, editions.FEATURES)
    groups = _described(corpus, potential, folder / f"described-{described}.safetensors")
    if relaxes:
        kept = folder / f"relaxed-{editions.short_digest(corpus.sha256, POTENTIAL, editions.RELAXATIONS)}"
        groups["relaxed"] = _relaxed(corpus, kept, processes=processes, report=report)
    return groups


def _described(corpus: Corpus, potential: Chgnet, path: Path) -> Groups:
    if not path.is_file():
        network = HopKernel()
        network.potential = potential
        tables = MessageTables(potential)
        parts: dict[str, list[np.ndarray]] = {}
        with torch.inference_mode():
            for start in range(0, len(corpus.records), _BANDS_AT_ONCE):
                hops = [hop_inputs(record.band) for record in corpus.records[start : start + _BANDS_AT_ONCE]]
                groups = hop_groups(network, hops, tables, torch.device("cpu"))
                for name, values in groups.items():
                    parts.setdefault(name, []).append(values.double().numpy())
                approaches = [[hop.bonds.closest_approach_angstrom] for hop in hops]
                parts.setdefault(CLOSEST_APPROACH, []).append(np.array(approaches))
        _save({name: np.concatenate(values) for name, values in parts.items()}, path)
    return dict(load_file(path))


def _relaxed(corpus: Corpus, folder: Path, *, processes: int, report: Report) -> np.ndarray:
    missing = [number for number in range(len(corpus.records)) if not _row(folder, number).is_file()]
    # Large bands first, so that no process is still busy with one when all others have finished.
    missing.sort(key=lambda number: -corpus.records[number].band.atom_count)
    started = time.monotonic()
    if missing:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker) as pool:
            waiting = [pool.submit(_relax_row, corpus.records[number].band, _row(folder, number)) for number in missing]
            for done, future in enumerate(as_completed(waiting), start=1):
                future.result()
                left = (time.monotonic() - started) / done * (len(missing) - done)
                report(f"relaxed {done} of {len(missing)} bands, {left / 60:.0f} min left")
    rows = [load_file(_row(folder, number)) for number in range(len(corpus.records))]
    return np.stack([relaxed_descriptors(RelaxedBand(**row)) for row in rows])


_worker_potential: Chgnet | None = None


def _start_worker() -> None:
    global _worker_potential  # noqa: PLW0603 - one potential per process, loaded when it starts
    keep_freed_memory()
    torch.set_num_threads(1)
    _worker_potential = published_chgnet()


def _relax_row(band: Band, path: Path) -> None:
    assert _worker_potential is not None
    (relaxed,) = relax([band_structure(band)], _worker_potential, torch.device("cpu"))
    _save({name: np.ascontiguousarray(getattr(relaxed, name)) for name in _RELAXED_FIELDS}, path)


def _row(folder: Path, number: int) -> Path:
    return folder / f"{number}.safetensors"


def _save(tensors: Groups, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_suffix(".pending")  # a run killed here leaves no half-written file
    save_file(tensors, pending)
    pending.replace(path)
