"""The comparison as a figure: predicted against reported barriers, and errors by ion and by family."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.comparison.entries import Entry
from training.comparison.table import span
from training.corpus import Corpus

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 4
_LIMIT_EV = 3.0
_SHOWN_GROUPS = 9
_COLOURS = 10  # that matplotlib tells apart; further models are grey


def draw(entries: Sequence[Entry], corpus: Corpus, path: Path) -> None:
    """Draw the sound rows of every model that ran, as a PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes a second to import

    shown = [entry for entry in entries if len(entry.rows)]
    parity_rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(3.2 * _COLUMNS, 3.0 * parity_rows + 7.0), layout="constrained")
    grid = figure.add_gridspec(parity_rows + 2, _COLUMNS, height_ratios=[3.0] * parity_rows + [3.2, 3.2])
    for number, entry in enumerate(shown):
        _parity(figure.add_subplot(grid[number // _COLUMNS, number % _COLUMNS]), entry, corpus)
    _grouped(figure.add_subplot(grid[parity_rows, :]), shown, corpus, lambda row: corpus.records[row].band.ion, "ion")
    _grouped(
        figure.add_subplot(grid[parity_rows + 1, :]), shown, corpus, lambda row: corpus.records[row].family, "family"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _parity(axes: "Axes", entry: Entry, corpus: Corpus) -> None:
    rows = corpus.sound[entry.rows]
    labels, predictions = corpus.barriers_ev[entry.rows][rows], entry.predictions_ev[rows]
    axes.plot([0, _LIMIT_EV], [0, _LIMIT_EV], color="0.6", linewidth=0.8)
    axes.scatter(np.minimum(labels, _LIMIT_EV), np.minimum(predictions, _LIMIT_EV), s=5, alpha=0.5, linewidths=0)
    axes.set(xlim=(0, _LIMIT_EV), ylim=(0, _LIMIT_EV), xlabel="reported, eV", ylabel="predicted, eV")
    axes.set_title(
        f"{entry.name}: MAE {np.abs(labels - predictions).mean():.3f} eV, folds {span(entry.folds)}", fontsize=8
    )


def _grouped(axes: "Axes", entries: Sequence[Entry], corpus: Corpus, group_of: Callable[[int], str], what: str) -> None:
    """Bars of the error by group, the largest groups first."""
    groups = np.array([group_of(row) for row in range(len(corpus.records))])
    names, counts = np.unique(groups[corpus.sound], return_counts=True)
    names = names[np.argsort(-counts, kind="stable")][:_SHOWN_GROUPS]
    width = 0.8 / len(entries)
    for number, entry in enumerate(entries):
        errors = np.abs(entry.predictions_ev - corpus.barriers_ev[entry.rows])
        sound = corpus.sound[entry.rows]
        bars = [
            float(errors[(groups[entry.rows] == name) & sound].mean())
            if ((groups[entry.rows] == name) & sound).any()
            else np.nan
            for name in names
        ]
        places = np.arange(len(names)) + (number + 0.5) * width - 0.4
        colour = f"C{number}" if number < _COLOURS else str(0.3 * (number - _COLOURS))
        axes.bar(places, bars, width, label=entry.name, color=colour)
    axes.set_xticks(np.arange(len(names)), names, fontsize=8)
    axes.set_ylabel("mean absolute error, eV")
    axes.set_title(f"by {what}, the {len(names)} largest", fontsize=9)
    axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.0, 1.0))
