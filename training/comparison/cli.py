"""`ionpath compare`: every model on the same folds."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.cores import usable_cores

if TYPE_CHECKING:  # scikit-learn and torch take seconds to import
    from collections.abc import Sequence

_TWINS = (("scratch-model-3", "model-3"), ("scratch-model-1", "model-1-concat"))


def compare(
    *,
    size: Annotated[
        Literal["compact", "full"], typer.Option(help="Size of the paper's models: compact or full.")
    ] = "compact",
    data: Annotated[Path, typer.Option(envvar="IONPATH_DATA_DIR", help="Folder with barriers/bands.jsonl.gz.")] = Path(
        "../shared/data"
    ),
    runs: Annotated[
        Path, typer.Option(help="Where `ionpath train` and `ionpath evaluate` wrote their results.")
    ] = Path("runs"),
    store: Annotated[Path, typer.Option(help="The model store, for the models' sizes and speeds.")] = Path(
        "model_store"
    ),
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="comparison.csv and comparison.png are written here.")
    ] = Path("docs"),
    source: Annotated[
        str, typer.Option(help="The barriers to compare on: literature, litraj, or another file of barriers/.")
    ] = "literature",
) -> None:
    """Put every model in one table, out of fold on the random folds: errors with intervals, size, time.

    The classical learners and the kernel machines are fitted now (minutes); for the paper's models the results of
    `ionpath evaluate` are read, and those without results are listed as not run; on other barriers than the
    literature's those that were not fitted on them are judged as they are served. Files of other barriers are named
    after their source.
    """
    from training.comparison.drawing import draw  # noqa: PLC0415 - see above
    from training.comparison.entries import Sources, entries  # noqa: PLC0415 - see above
    from training.comparison.table import table, twin_difference, write_csv  # noqa: PLC0415 - see above
    from training.corpus import LITERATURE, read_corpus  # noqa: PLC0415 - see above

    try:
        every = read_corpus(data, None)
        corpus = read_corpus(data, (source,))
    except (FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    compared = entries(
        Sources(
            corpus=corpus,
            every=every,
            runs=runs,
            store=store,
            size=size,
            processes=usable_cores(),
            report=lambda text: typer.echo(text, err=True),
        )
    )
    rows = table(compared, corpus)
    _print(rows)
    by_name = {entry.name: entry for entry in compared}
    for scratch, pretrained in _TWINS:
        gain = twin_difference(by_name[scratch], by_name[pretrained], corpus)
        if gain is not None:
            typer.echo(
                f"{pretrained} is better than {scratch} by {gain['value']:.3f} eV [{gain['low']:.3f}, "
                f"{gain['high']:.3f}] (paired bootstrap, sound rows of the folds that both ran)"
            )
    name = "comparison" if source == LITERATURE else f"comparison-{source}"
    write_csv(rows, out / f"{name}.csv")
    draw(compared, corpus, out / f"{name}.png")
    typer.echo(f"wrote {out / name}.csv and .png")


def _print(rows: "Sequence[dict[str, Any]]") -> None:
    from rich.console import Console  # noqa: PLC0415 - only where a table is printed
    from rich.table import Table  # noqa: PLC0415 - as above

    from training.comparison.table import COMPARED  # noqa: PLC0415 - see above

    shown = Table(title="out of fold, fold_random, sound rows; 95 % bootstrap intervals")
    for title in ("model", "fitted on", "folds", "parameters", "training s", "ms a band", *COMPARED):
        shown.add_column(title, justify="left" if title == "model" else "right")
    for row in rows:
        if not row["rows"]:
            shown.add_row(row["model"], "not run")
            continue
        shown.add_row(
            row["model"],
            row["fitted_on"],
            row["folds"],
            _plain(row["parameters"], "d"),
            _plain(row["training_seconds"], ".0f"),
            _plain(row["milliseconds_a_band"], ".0f"),
            *[_metric(row[name]) for name in COMPARED],
        )
    Console(width=int(os.environ.get("COLUMNS", "200"))).print(shown)


def _plain(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _metric(value: dict[str, float | None]) -> str:
    if value["value"] is None:
        return "not defined"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
