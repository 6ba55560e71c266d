"""`ionpath data`: downloads the training data and prepares it once."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from app.cores import usable_cores
from training.cli import Size, print_graphs

_DATA = typer.Option("--data", envvar="IONPATH_DATA_DIR", help="Folder with barriers/ and pretraining/.")
_URL_HELP = "Base URL from which the pinned files that are missing are downloaded into the data folder."

data = typer.Typer(help="Download and prepare the training data.", no_args_is_help=True)


@data.callback()
def _group() -> None:
    """Download and prepare the training data."""


@data.command()
def download(
    *,
    from_url: Annotated[str, typer.Option(envvar="IONPATH_DATA_URL", help=_URL_HELP)],
    data_dir: Annotated[Path, _DATA] = Path("../shared/data"),
) -> None:
    """Download the data and check it against its pinned SHA-256; files that exist are only checked.

    It can be stopped at any time: the same command resumes where it stopped.
    """
    _download(from_url, data_dir)
    typer.echo(f"the data is in {data_dir}")


@data.command()
def prepare(
    *,
    size: Annotated[
        Size, typer.Option(help="Which graphs to make: those of the compact or of the full configurations.")
    ] = "compact",
    data_dir: Annotated[Path, _DATA] = Path("../shared/data"),
    from_url: Annotated[str | None, typer.Option(envvar="IONPATH_DATA_URL", help=_URL_HELP)] = None,
    runs: Annotated[Path, typer.Option(help="The graphs are kept in RUNS/graphs.")] = Path("runs"),
    processes: Annotated[int, typer.Option(help="Number of parallel processes; 0 uses one per CPU core.")] = 0,
) -> None:
    """Turn crystals and bands into graphs on disk, in parallel; graphs that exist are kept.

    It can be stopped at any time: the same command makes only what is missing.
    """
    from app.models.checkpoints import GRAPH_NETWORKS  # noqa: PLC0415 - torch takes seconds to import
    from app.models.graphs.shells import GraphSpec  # noqa: PLC0415 - as above
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
    typer.echo(f"{len(crystals)} crystals and {len(corpus.records)} bands have graphs in {runs / 'graphs'}")


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
