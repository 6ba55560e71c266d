"""The crystals of the pre-training as graphs on disk, made once, in parallel, and read from there."""

import gzip
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pymatgen.core import Element

from app.models.graphs.crystal_graphs import crystal_graph
from app.models.graphs.shells import AtomGraph, GraphSpec
from training import editions
from training.graph_files import GraphFile, write_graphs
from training.pretraining.properties import PROPERTIES

CRYSTALS_FILE = Path("pretraining") / "crystals.jsonl.gz"
SPLITS = ("train", "validation", "test")
_ROWS_A_FILE = 2000
_INDEX = "index.json"


@dataclass(frozen=True, kw_only=True)
class CrystalSet:
    """All crystals of a data folder as graphs of one spec.

    Attributes:
        folder: of the files.
        files: of graphs, in the data's order.
        properties: NaN where a row has none, shape [n_rows, 8], in the order of PROPERTIES.
        split: which of SPLITS each row is in, shape [n_rows].
        node_counts, line_counts: shape [n_rows].
        sha256: of the data.
    """

    folder: Path
    files: tuple[GraphFile, ...]
    properties: np.ndarray
    split: np.ndarray
    node_counts: np.ndarray
    line_counts: np.ndarray
    sha256: str

    def __len__(self) -> int:
        return len(self.split)

    def graph(self, row: int) -> AtomGraph:
        """The graph of a row."""
        return self.files[row // _ROWS_A_FILE].graph(row % _ROWS_A_FILE)

    def rows(self, split: str, *, most_atoms: int = 0) -> np.ndarray:
        """Row numbers of a split; only crystals of at most `most_atoms` atoms, unless it is 0."""
        chosen = self.split == SPLITS.index(split)
        if most_atoms:
            chosen &= self.node_counts <= most_atoms
        return np.flatnonzero(chosen)


def prepare_crystals(
    data: Path, folder: Path, spec: GraphSpec, *, processes: int, report: Callable[[int, int], None]
) -> CrystalSet:
    """Make the graphs that are missing and open all of them.

    A call after an interrupted one resumes it; a call after a finished one makes nothing. Memory holds a few thousand
    rows at a time, whatever the data's size.

    Args:
        data: a folder with pretraining/crystals.jsonl.gz.
        folder: of the graphs; each data set, spec and edition (training.editions) has its own folder in it.
        spec: the shells of neighbours.
        processes: number of parallel processes.
        report: called with the number of rows done and the number of all rows.

    Raises:
        FileNotFoundError: the data folder has no crystals; the message has the path.
        ValueError: a row is invalid; the message has its line number.
    """
    path = data / CRYSTALS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no crystals at {path}; --data (or IONPATH_DATA_DIR) names the folder that has them")
    sha256 = _sha256(path)
    shells = [spec.neighbour_count, spec.reach_angstrom, spec.shell_width_angstrom]
    folder = folder / f"crystals-{editions.short_digest(sha256, shells, _ROWS_A_FILE, editions.GRAPHS)}"
    index = folder / _INDEX
    if not index.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        count = _make(path, folder, spec, processes=processes, report=report)
        pending = index.with_suffix(".pending")
        pending.write_text(json.dumps({"rows": count, "sha256": sha256, "spec": asdict(spec)}), encoding="utf-8")
        pending.replace(index)
    return _open(folder, json.loads(index.read_text(encoding="utf-8"))["rows"], sha256)


def _open(folder: Path, count: int, sha256: str) -> CrystalSet:
    files = tuple(GraphFile(_file(folder, number)) for number in range(-(-count // _ROWS_A_FILE)))
    return CrystalSet(
        folder=folder,
        files=files,
        properties=np.concatenate([file.tensor("properties").numpy() for file in files]),
        split=np.concatenate([file.tensor("split").numpy() for file in files]),
        node_counts=np.concatenate([file.node_counts for file in files]),
        line_counts=np.concatenate([file.line_counts for file in files]),
        sha256=sha256,
    )


def _make(path: Path, folder: Path, spec: GraphSpec, *, processes: int, report: Callable[[int, int], None]) -> int:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        total = sum(1 for _ in lines)
    done = 0
    if processes == 1:
        for number, rows in enumerate(_chunks(path)):
            if not _file(folder, number).is_file():
                _make_file(_file(folder, number), number * _ROWS_A_FILE, rows, spec)
            done += len(rows)
            report(done, total)
        return done
    waiting: deque[tuple[Future[None] | None, int]] = deque()
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for number, rows in enumerate(_chunks(path)):
            file = _file(folder, number)
            future = None if file.is_file() else pool.submit(_make_file, file, number * _ROWS_A_FILE, rows, spec)
            waiting.append((future, len(rows)))
            # Keeps in memory only what the processes need next.
            while len(waiting) > 2 * processes:
                done += _finish(waiting)
                report(done, total)
        while waiting:
            done += _finish(waiting)
            report(done, total)
    return done


def _finish(waiting: deque[tuple[Future[None] | None, int]]) -> int:
    future, rows = waiting.popleft()
    if future is not None:
        future.result()
    return rows


def _chunks(path: Path) -> Iterator[list[str]]:
    rows: list[str] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            rows.append(line)
            if len(rows) == _ROWS_A_FILE:
                yield rows
                rows = []
    if rows:
        yield rows


def _make_file(file: Path, first: int, lines: list[str], spec: GraphSpec) -> None:
    made, properties, splits = [], [], []
    for number, line in enumerate(lines, start=first + 1):
        try:
            row: dict[str, Any] = json.loads(line)
            known = row["properties"]
            splits.append(SPLITS.index(row["split"]))
            properties.append([float(known.get(name, "nan")) for name in PROPERTIES])
            made.append(
                crystal_graph(
                    np.array(row["lattice_angstrom"], dtype=np.float64),
                    np.array([Element(symbol).Z for symbol in row["species"]], dtype=np.int64),
                    np.array(row["frac_coords"], dtype=np.float64),
                    spec,
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} of the crystals is invalid: {error}") from error
    extra = {
        "properties": torch.tensor(properties, dtype=torch.float32),
        "split": torch.tensor(splits, dtype=torch.int8),
    }
    write_graphs(file, made, extra)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:04d}.safetensors"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
