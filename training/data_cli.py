"""`ionpath data`: downloads the training data, converts what others publish, and prepares it once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.cores import usable_cores
from training.cli import Size, print_graphs

if TYPE_CHECKING:  # numpy and the readers take a while to import, and `ionpath --help` loads this file
    from training.conversion.tables import Converted
    from training.download import DataFile

_DATA = typer.Option("--data", envvar="IONPATH_DATA_DIR", help="Folder with barriers/ and pretraining/.")
_URL_HELP = "Base URL from which the pinned files that are missing are downloaded into the data folder."

data = typer.Typer(help="Download, convert and prepare the training data.", no_args_is_help=True)


@data.callback()
def _group() -> None:
    """Download, convert and prepare the training data."""


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


convert = typer.Typer(
    help="Turn what others publish, or your own barriers, into the training data.", no_args_is_help=True
)
data.add_typer(convert, name="convert")

_FOLDER = typer.Argument(metavar="PATH", help="The folder of the unpacked archive.", exists=True, file_okay=False)


@convert.callback()
def _convert_group() -> None:
    """Turn what others publish, or your own barriers, into the training data.

    Of published data the rows that have a fold here are converted; all others are left out and counted.
    """


@convert.command()
def literature(
    published: Annotated[
        Path | None,
        typer.Argument(metavar="[PATH]", help="RAW-Em-5-images-TRAIN.json or .json.xz; downloaded if left out."),
    ] = None,
    *,
    data_dir: Annotated[Path, _DATA] = Path("../shared/data"),
) -> None:
    """Write barriers/bands.jsonl.gz from the literature's barriers as published (arXiv:2508.06459)."""
    from training.conversion.literature import PUBLISHED, convert_literature, download_literature  # noqa: PLC0415
    from training.download import DownloadError  # noqa: PLC0415 - as above

    with _conversion(), _shown_bars([PUBLISHED]) as report:
        try:
            path = published or download_literature(data_dir, report)
        except DownloadError as error:
            raise typer.BadParameter(str(error)) from error
        converted = convert_literature(path, data_dir)
    _print_converted(converted)


@convert.command()
def litraj(published: Annotated[Path, _FOLDER], *, data_dir: Annotated[Path, _DATA] = Path("../shared/data")) -> None:
    """Write barriers/litraj.jsonl.gz from LiTraj's nebDFT2k as published (doi 10.1038/s41524-025-01571-z)."""
    from training.conversion.litraj import convert_litraj  # noqa: PLC0415 - as above

    with _conversion(), _shown_count("bands") as report:
        converted = convert_litraj(published, data_dir, report)
    _print_converted(converted)


@convert.command()
def obelix(published: Annotated[Path, _FOLDER], *, data_dir: Annotated[Path, _DATA] = Path("../shared/data")) -> None:
    """Write conductivity/ from OBELiX's table and CIFs as published (doi 10.1039/d5dd00441a)."""
    from training.conversion.obelix import convert_obelix  # noqa: PLC0415 - as above

    with _conversion():
        converted = convert_obelix(published, data_dir)
    _print_converted(converted)


@convert.command()
def own(
    folder: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="Folder with barriers.csv and the bands it names.", exists=True),
    ],
    *,
    name: Annotated[str, typer.Option(help="Name of the source; the file is barriers/NAME.jsonl.gz.")],
    data_dir: Annotated[Path, _DATA] = Path("../shared/data"),
) -> None:
    """Write barriers/NAME.jsonl.gz from your own NEB folders and a table with the columns band and barrier_ev."""
    from training.conversion.own import convert_own  # noqa: PLC0415 - as above

    with _conversion(), _shown_count("bands") as report:
        converted = convert_own(folder, data_dir, name, report)
    _print_converted(converted)


@contextmanager
def _conversion() -> Iterator[None]:
    from training.conversion.tables import ConversionError  # noqa: PLC0415 - as above

    try:
        yield
    except (ConversionError, OSError) as error:
        raise typer.BadParameter(str(error)) from error


def _print_converted(converted: "Converted") -> None:
    for note in converted.notes:
        typer.echo(note, err=True)
    typer.echo(f"wrote {converted.path}: {converted.rows} rows")
    if converted.left_out:
        typer.echo(f"left out: {converted.left_out} rows that have no fold here")
    if converted.missing:
        typer.echo(f"missing: {converted.missing} rows that have a fold here are not in the input, or unreadable")


def _download(base_url: str, folder: Path) -> None:
    from training.download import DownloadError, fetch, read_data_files  # noqa: PLC0415 - httpx takes a while

    with _shown_bars(read_data_files()) as report:
        try:
            fetch(read_data_files(), base_url, folder, report=report)
        except (DownloadError, OSError) as error:
            raise typer.BadParameter(str(error)) from error


@contextmanager
def _shown_bars(files: "Sequence[DataFile]") -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each file that is downloaded."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        tasks = {file.name: shown.add_task(file.name, total=file.size_bytes, visible=False) for file in files}

        def report(name: str, done: int, total: int) -> None:
            shown.update(tasks[name], completed=done, total=total, visible=True)

        yield report


@contextmanager
def _shown_count(name: str) -> Iterator[Callable[[int, int], None]]:
    """One bar that counts."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(name, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
