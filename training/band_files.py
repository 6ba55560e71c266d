"""The bands of the corpus as graphs on disk, made once and read from there."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from app.crystals.band import Band
from app.models.graphs.band_graphs import State, band_graph
from app.models.graphs.shells import AtomGraph, GraphSpec
from training import editions
from training.barrier_task import BandGraphs
from training.corpus import Corpus
from training.graph_files import GraphFile, write_graphs

_BANDS_AT_ONCE = 40


def prepare_bands(
    corpus: Corpus,
    folder: Path,
    spec: GraphSpec,
    states: tuple[State, ...],
    *,
    processes: int = 1,
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[BandGraphs]:
    """Make the graphs of all bands unless they exist, and read them.

    Args:
        corpus: the bands.
        folder: of the graphs; each corpus, spec, set of states and edition (training.editions) has its own file in it.
        spec: of the graphs.
        states: which graphs each band becomes.
        processes: that make graphs.
        report: called with the number of bands done and the number of all bands.

    Returns:
        For each band, a graph of each state.
    """
    ids = [record.id for record in corpus.records]
    digest = editions.short_digest(corpus.sha256, ids, asdict(spec), states, editions.GRAPHS)
    path = folder / f"bands-{digest}.safetensors"
    if not path.is_file():
        bands = [record.band for record in corpus.records]
        write_graphs(path, _made(bands, spec, states, processes=processes, report=report), {})
    file = GraphFile(path)
    width = len(states)
    return [tuple(file.graph(row * width + state) for state in range(width)) for row in range(len(corpus.records))]


def _made(
    bands: Sequence[Band],
    spec: GraphSpec,
    states: tuple[State, ...],
    *,
    processes: int,
    report: Callable[[int, int], None],
) -> list[AtomGraph]:
    pieces = [bands[start : start + _BANDS_AT_ONCE] for start in range(0, len(bands), _BANDS_AT_ONCE)]
    made: list[AtomGraph] = []
    if processes == 1 or len(pieces) == 1:
        for piece in pieces:
            made += _graphs_of(piece, spec, states)
            report(len(made) // len(states), len(bands))
        return made
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for graphs_made in pool.map(_graphs_of, pieces, [spec] * len(pieces), [states] * len(pieces)):
            made += graphs_made
            report(len(made) // len(states), len(bands))
    return made


def _graphs_of(bands: Sequence[Band], spec: GraphSpec, states: tuple[State, ...]) -> list[AtomGraph]:
    return [band_graph(band, spec, state) for band in bands for state in states]
