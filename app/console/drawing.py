"""Draws results as a picture: each barrier with its interval, the threshold, and where a crystal's hops connect."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.console.asking import Result
from app.serving.answers.as_json import UNBOUNDED_EV

#: More rows than a picture can hold legibly; a table or CSV holds them all.
MOST_ROWS = 150
_ROW_INCHES, _HEAD_INCHES, _WIDTH_INCHES = 0.26, 1.3, 7.5
_GOOD, _POOR, _INK, _SOFT = "#0b6e6e", "#b3421b", "#17201f", "#5a6766"


@dataclass(frozen=True, kw_only=True)
class _Row:
    label: str
    barrier_ev: float
    low_ev: float
    high_ev: float


def draw(results: Sequence[Result], path: Path, *, threshold_ev: float) -> None:
    """Draw every barrier as a dot and its interval as a bar, in one panel a file.

    Args:
        results: what was answered; those with a problem are left out.
        path: the picture, its kind by its ending (png, svg, pdf).
        threshold_ev: drawn as a line, eV.

    Raises:
        ValueError: there is nothing to draw, more than fits a picture, or no such kind of picture.
        OSError: the file cannot be written.
    """
    panels = [(result, rows) for result in results if (rows := list(_rows(result)))]
    count = sum(len(rows) for _, rows in panels)
    if not panels:
        raise ValueError("There is no barrier to draw.")
    if count > MOST_ROWS:
        raise ValueError(f"{count} barriers are more than one picture holds ({MOST_ROWS}); --csv holds them all.")
    heights = [len(rows) * _ROW_INCHES + _HEAD_INCHES for _, rows in panels]
    figure = Figure(figsize=(_WIDTH_INCHES, sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axis, (result, rows) in zip(axes, panels, strict=True):
        _draw_panel(axis, result, rows, threshold_ev)
    axes[-1].set_xlabel("barrier, eV")
    axes[-1].set_xlim(left=0)
    figure.savefig(path, dpi=160)


def _rows(result: Result) -> Iterator[_Row]:
    answer = result.answer or {}
    if answer.get("hops") is None:
        named = [(result.label, answer)]
    else:
        named = [(_hop_label(number, hop), hop) for number, hop in enumerate(answer["hops"], start=1)]
    for label, predicted in named:
        if predicted.get("barrier_ev") is not None:
            interval = predicted["interval_ev"]
            yield _Row(
                label=label,
                barrier_ev=predicted["barrier_ev"],
                low_ev=interval["low"],
                high_ev=UNBOUNDED_EV if interval["high"] is None else interval["high"],
            )


def _hop_label(number: int, hop: dict[str, Any]) -> str:
    return f"{number}:  {hop['from_site']} to {hop['to_site']}  {hop['distance_angstrom']:.2f} Å"


def _draw_panel(axis: Axes, result: Result, rows: Sequence[_Row], threshold_ev: float) -> None:
    heights = range(len(rows))
    colours = [_GOOD if row.barrier_ev < threshold_ev else _POOR for row in rows]
    lows, highs = [row.low_ev for row in rows], [row.high_ev for row in rows]
    axis.hlines(heights, lows, highs, colors=colours, linewidth=5, alpha=0.3)
    axis.scatter([row.barrier_ev for row in rows], heights, c=colours, s=26, zorder=3)
    axis.axvline(threshold_ev, color=_SOFT, linestyle="--", linewidth=1)
    axis.set_yticks(list(heights), [row.label for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.25)
    axis.set_title(_title(result), loc="left", color=_INK, fontsize=10)


def _title(result: Result) -> str:
    answer = result.answer or {}
    what = f"{result.label}, {answer['ion']} in {answer['formula']}"
    percolation = answer.get("percolation_ev")
    if percolation is None:
        return what
    figures = ", ".join(f"{name} {'never' if ev is None else f'{ev:.2f} eV'}" for name, ev in percolation.items())
    return f"{what}\nconnects in {figures}"
