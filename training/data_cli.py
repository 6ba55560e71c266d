"""`ionpath data`: what training reads, made ready once."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from app.cores import usable_cores
from training.cli import Size, print_graphs

_DATA = typer.Option("--data", envvar="IONPATH_DATA_DIR", help="Folder with barriers/ and pretraining/.")
_URL_HELP = "Download the pinned files from under this address into the data folder, where they are not there."

data = typer.Typer(help="Make the training data ready.", no_args_is_help=True)


@data.callback()
def _group() -> None:
    """Make the training data ready."""


@data.command()
def download(
    *,
    from_url: Annotated[str, typer.Option(envvar="IONPATH_DATA_URL", help=_URL_HELP)],
    data_dir: Annotated[Path, _DATA] = Path("../shared/data"),
) -> None:
    """Download the data and check it against its pinned SHA-256; a second call finds it there.

    Stop it whenever you like: the same command goes on where it stopped.
    """
    _download(from_url, data_dir)
    typer.echo(f"the data is in {data_dir}")


@data.command()
def prepare(
    *,
    size: Annotated[
        Size, typer.Option(help="Whose graphs: of the compact configurations or the full ones.")
    ] = "compact",
    data_dir: Annotated[Path, _DATA] = Path("../shared/data"),
    from_url: Annotated[str | None, typer.Option(envvar="IONPATH_DATA_URL", help=_URL_HELP)] = None,
    runs: Annotated[Path, typer.Option(help="The graphs are kept in RUNS/graphs.")] = Path("runs"),
    processes: Annotated[int, typer.Option(help="That work side by side; 0 takes one a CPU core.")] = 0,
) -> None:
    """Turn crystals and bands into graphs on disk, in parallel; a second call finds them made.

    Stop it whenever you like: the same command goes on with what is missing.
    """
    from app.models.checkpoints import GRAPH_NETWORKS  # noqa: PLC0415 - torch takes seconds to import
    from app.models.graphs import GraphSpec  # noqa: PLC0415 - as above
    from training.band_files import prepare_bands  # noqa: PLC0415 - as above
    from training.config import CONFIGS, read_config  # noqa: PLC0415 - as above
    from training.corpus import read_corpus  # noqa: PLC0415 - as above
    from training.pretraining.config import read_pretraining_config  # noqa: PLC0415 - as above
    from training.pretraining.crystals import prepare_crystals  # noqa: PLC0415 - as above

    if from_url:
        _download(from_url, data_dir)
    spec = GraphSpec(**read_pretraining_config(CONFIGS / f"mpt-{size}.toml").graph)
    workers = processes or usable_cores()
    try:
        crystals = prepare_crystals(data_dir, runs / "graphs", spec, processes=workers, report=print_graphs)
        corpus = read_corpus(data_dir)
        bands_spec = GraphSpec(**read_config(f"model-3-{size}").graph)
        for states in sorted({network.states for network in GRAPH_NETWORKS.values()}):
            prepare_bands(corpus, runs / "graphs", bands_spec, states, processes=workers, report=print_graphs)
    except (FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"{len(crystals)} crystals and {len(corpus.records)} bands are graphs in {runs / 'graphs'}")


def _download(base_url: str, folder: Path) -> None:
    from training.download import DownloadError, fetch, read_data_files  # noqa: PLC0415 - httpx takes a while

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        tasks = {
            file.name: shown.add_task(file.name, total=file.size_bytes, visible=False) for file in read_data_files()
        }

        def report(name: str, done: int, total: int) -> None:
            shown.update(tasks[name], completed=done, total=total, visible=True)

        try:
            fetch(read_data_files(), base_url, folder, report=report)
        except (DownloadError, OSError) as error:
            raise typer.BadParameter(str(error)) from error
