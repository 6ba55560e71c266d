"""`ionpath train` and `ionpath evaluate`, which join the service's command line."""

import os
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from app.cores import usable_cores

if TYPE_CHECKING:  # torch takes seconds to import, and `ionpath --help` loads this file
    from training.conductivity.run import ConductivityRun
    from training.corpus import Corpus
    from training.fit import EpochReport
    from training.kernels.config import KernelConfig
    from training.kernels.run import KernelRun
    from training.pretraining.run import Pretraining
    from training.runs import Run

Size = Literal["compact", "full"]
Device = Literal["auto", "cpu", "cuda"]


_MODEL = typer.Argument(
    help="Which model: default, relaxed, conductivity, mpt, model-3, ...; or the path of a .toml file like those in "
    "training/configs."
)
_SIZE = typer.Option(help="compact fits two CPU cores; full is the paper's size, for a GPU.")
_DATA = typer.Option(
    envvar="IONPATH_DATA_DIR", help="Folder with barriers/: bands.jsonl.gz, and your own as NAME.jsonl.gz."
)
_RUNS = typer.Option(help="Where states, TensorBoard logs and results are kept; a run resumes from them.")
_STORE = typer.Option(help="The model store: checkpoints are written there, and a pre-trained trunk is read from it.")
_DEVICE = typer.Option(help="auto, cpu or cuda.")
_THREADS = typer.Option(help="Threads of a CPU fit; 0 lets torch choose.")

#: Sound barriers that a fit of kernel machines needs; of nine its intervals were 0.01 eV wide and 0.2 eV off.
FEWEST_BARRIERS = 100
#: Folds that the rows of each world lie in: two are left out at once.
_FEWEST_FOLDS = 3

_REPORT = typer.Option(
    metavar="DIR", help="Also draw the errors of default, relaxed or conductivity, as PNGs in this folder."
)


def train(
    model: Annotated[str, _MODEL] = "model-3",
    *,
    size: Annotated[Size, _SIZE] = "compact",
    data: Annotated[Path, _DATA] = Path("../shared/data"),
    runs: Annotated[Path, _RUNS] = Path("runs"),
    store: Annotated[Path, _STORE] = Path("model_store"),
    version: Annotated[str, typer.Option(help="The checkpoint's version.")] = "1",
    device: Annotated[Device, _DEVICE] = "auto",
    threads: Annotated[int, _THREADS] = 0,
) -> None:
    """Fit every calibration fold and then all sound bands, calibrate, and write the checkpoint with its card.

    It can be stopped at any time: the same command resumes at the last finished epoch and ends with the same weights.
    `tensorboard --logdir runs` shows the curves.
    """
    if path := _kernel_path(model):
        from training.kernels.publish import publish_kernels  # noqa: PLC0415 - see above

        card = publish_kernels(_kernel_run(path, data, runs, threads, fewest=FEWEST_BARRIERS), store, version=version)
        typer.echo(f"wrote {store / card.name}, digest {card.digest[:12]}")
        return
    if path := _conductivity_path(model):
        from training.conductivity.publish import publish_conductivity  # noqa: PLC0415 - see above

        conductivity = publish_conductivity(_conductivity(path, data, runs, store), store, version=version)
        _print_conductivity(conductivity.metrics, conductivity.name)
        typer.echo(f"wrote {store / conductivity.name}, digest {conductivity.digest[:12]}")
        return
    if path := _pretraining_path(model, size):
        from training.pretraining.publish import publish_pretraining  # noqa: PLC0415 - see above

        properties = publish_pretraining(
            _pretraining(path, data, runs, device, threads),
            store,
            version=version,
            report=lambda epoch: _print_epoch("all properties", epoch),
        )
        _print_properties(properties.metrics["test"], f"{properties.name}, test rows")
        typer.echo(f"wrote {store / properties.name}, digest {properties.digest[:12]}")
        return
    from training.publish import publish  # noqa: PLC0415 - see above

    run = _run(_config_name(model, size), data, runs, device, threads, store=store)
    card = publish(run, store, version=version, report=_print_epoch)
    typer.echo(f"wrote {store / card.name}, digest {card.digest[:12]}")


def evaluate(
    model: Annotated[str, _MODEL] = "model-3",
    *,
    size: Annotated[Size, _SIZE] = "compact",
    folds: Annotated[str, typer.Option(help="Fold numbers, such as 0 or 0,1,2 or 0-9.")] = "0",
    data: Annotated[Path, _DATA] = Path("../shared/data"),
    runs: Annotated[Path, _RUNS] = Path("runs"),
    store: Annotated[Path, _STORE] = Path("model_store"),
    device: Annotated[Device, _DEVICE] = "auto",
    threads: Annotated[int, _THREADS] = 0,
    report: Annotated[Path | None, _REPORT] = None,
) -> None:
    """Print out-of-fold errors with their 95 % bootstrap intervals; folds that were not fitted yet are fitted now.

    Two calls on different folds may run in parallel; `ionpath train` uses their results.
    """
    if path := _kernel_path(model):
        _evaluate_kernels(_kernel_run(path, data, runs, threads), report)
        return
    if path := _conductivity_path(model):
        _evaluate_conductivity(_conductivity(path, data, runs, store), model, report)
        return
    if path := _pretraining_path(model, size):
        from training.pretraining.figures import property_figures  # noqa: PLC0415 - see above

        trained = _pretraining(path, data, runs, device, threads)
        network, _ = trained.fitted(lambda epoch: _print_epoch("all properties", epoch))
        _print_properties(property_figures(trained, *trained.predictions(network, "test")), f"{model}, test rows")
        return
    if report is not None:
        raise typer.BadParameter(f"--report is for default, relaxed and conductivity, and {model} is not one")
    from training.evaluation import figures  # noqa: PLC0415 - see above

    run = _run(_config_name(model, size), data, runs, device, threads, store=store)
    numbers = _fold_numbers(folds)
    known = {int(fold) for fold in run.corpus.folds(run.config.folding)}
    if unknown := set(numbers) - known:
        raise typer.BadParameter(f"{run.config.folding} has the folds {min(known)}-{max(known)}, not {sorted(unknown)}")
    table = figures(run, [run.fold(number, _print_epoch) for number in numbers])
    worlds = table.pop("worlds", {})
    assert isinstance(worlds, dict)
    for of, one in {"": table, **{f", {name}": values for name, values in worlds.items()}}.items():
        _print_figures(one, f"{run.config.name}{of}, {run.config.folding}, out of fold: {folds}")


def _kernel_path(model: str) -> Path | None:
    from training.kernels.config import kernel_config_path  # noqa: PLC0415 - see above

    return kernel_config_path(model)


def _kernel_run(path: Path, data: Path, runs: Path, threads: int, *, fewest: int = 0) -> "KernelRun":
    from training.corpus import LITRAJ, barrier_files, read_corpus  # noqa: PLC0415 - see above
    from training.kernels.config import read_kernel_config  # noqa: PLC0415 - see above
    from training.kernels.run import KernelRun  # noqa: PLC0415 - see above

    try:
        config = read_kernel_config(path)
        # A lab's own barriers count as the literature's. LiTraj's would spoil a fit that does not know the two apart.
        left_out = set() if config.worlds is not None else {LITRAJ}
        corpus = read_corpus(data, [source for source in barrier_files(data) if source not in left_out])
        _check_rows(corpus, config, fewest)
        return KernelRun(
            config,
            corpus,
            runs,
            processes=threads or usable_cores(),
            report=lambda text: typer.echo(text, err=True),
        )
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


def _check_rows(corpus: "Corpus", config: "KernelConfig", fewest: int) -> None:
    """Refuse rows that a fit, or its intervals out of fold, cannot be made from."""
    from training.corpus import FOLDINGS  # noqa: PLC0415 - see above
    from training.kernels.worlds import worlds_of  # noqa: PLC0415 - see above

    if (sound := int(corpus.sound.sum())) < fewest:
        raise ValueError(
            f"{sound} sound barriers are too few to fit {config.name}, whose intervals could not be trusted: at least "
            f"{fewest} are needed. Put the literature's beside them (`ionpath data download`); "
            f"`ionpath evaluate {config.name}` shows the errors."
        )
    if config.worlds is None:
        return
    numbers = worlds_of(corpus.sources, config.worlds)
    for number, folding in product(sorted(set(numbers[corpus.sound].tolist())), FOLDINGS):
        count = len(set(corpus.folds(folding)[corpus.sound & (numbers == number)].tolist()))
        if count < _FEWEST_FOLDS:
            raise ValueError(
                f"The sound barriers of the world {config.worlds.worlds[number].name} lie in {count} of the folds of "
                f"{folding}, and at least {_FEWEST_FOLDS} are needed: barriers of more chemical systems."
            )


def _evaluate_kernels(run: "KernelRun", folder: Path | None) -> None:
    from training.corpus import FOLDINGS  # noqa: PLC0415 - see above
    from training.kernels.figures import figures  # noqa: PLC0415 - see above
    from training.kernels.report import write_report  # noqa: PLC0415 - see above

    outs = {folding: run.nested(run.out_of_fold(folding)) for folding in FOLDINGS}
    for folding, out in outs.items():
        table = figures(run, out)
        worlds = table.pop("worlds", {})
        assert isinstance(worlds, dict)
        for of, one in {"": table, **{f", {name}": values for name, values in worlds.items()}}.items():
            calibration = one.pop("calibration")
            assert isinstance(calibration, dict)
            _print_figures(one, f"{run.config.name}{of}, {folding}, out of fold")
            for name, value in calibration.items():
                shown = _figure(value) if "value" in value else "  ".join(f"{k}: {v:.3f}" for k, v in value.items())
                typer.echo(f"  {name}: {shown}")
    if folder is not None:
        for path in write_report(run, outs, folder):
            typer.echo(f"wrote {path}")


def _conductivity_path(model: str) -> Path | None:
    from training.conductivity.config import conductivity_config_path  # noqa: PLC0415 - see above

    return conductivity_config_path(model)


def _conductivity(path: Path, data: Path, runs: Path, store: Path) -> "ConductivityRun":
    from app.models.cards.card import CheckpointError  # noqa: PLC0415 - see above
    from app.models.registry import Registry  # noqa: PLC0415 - see above
    from training.conductivity.config import read_conductivity_config  # noqa: PLC0415 - see above
    from training.conductivity.measured import read_measurements  # noqa: PLC0415 - see above
    from training.conductivity.run import ConductivityRun  # noqa: PLC0415 - see above

    try:
        config = read_conductivity_config(path)
        measurements = read_measurements(data, config.ion)
        predictor = Registry.open(store, "cpu", default="default").predictor()
        return ConductivityRun(
            config, measurements, predictor, runs / "features", report=lambda text: typer.echo(text, err=True)
        )
    except (FileNotFoundError, TypeError, ValueError, CheckpointError) as error:
        raise typer.BadParameter(str(error)) from error


def _evaluate_conductivity(run: "ConductivityRun", name: str, folder: Path | None) -> None:
    from training.conductivity.figures import figures  # noqa: PLC0415 - see above
    from training.conductivity.report import write_report  # noqa: PLC0415 - see above
    from training.conductivity.run import both_out_of_fold, cross_calibrated  # noqa: PLC0415 - see above

    outs = both_out_of_fold(run)
    every = list(outs.values())
    tables = {folding: figures(run, out, cross_calibrated(run, out, every)) for folding, out in outs.items()}
    _print_conductivity(tables, name)
    if folder is not None:
        for path in write_report(run, outs, folder):
            typer.echo(f"wrote {path}")


def _config_name(model: str, size: Size) -> str:
    return model if model.endswith(".toml") else f"{model}-{size}"


def _run(config: str, data: Path, runs: Path, device: Device, threads: int, *, store: Path) -> "Run":
    from app.models.cards.card import CheckpointError  # noqa: PLC0415 - see above
    from app.models.registry import choose_device  # noqa: PLC0415 - see above
    from training.config import read_config  # noqa: PLC0415 - see above
    from training.corpus import read_corpus  # noqa: PLC0415 - see above
    from training.runs import Run  # noqa: PLC0415 - see above

    try:
        settings = read_config(config)
        return Run(
            settings,
            read_corpus(data, settings.sources or None),
            runs,
            device=choose_device(device),
            store=store,
            threads=threads,
        )
    except (FileNotFoundError, TypeError, ValueError, CheckpointError) as error:
        raise typer.BadParameter(str(error)) from error


def _pretraining_path(model: str, size: Size) -> Path | None:
    from training.pretraining.config import pretraining_config_path  # noqa: PLC0415 - see above

    return pretraining_config_path(model, size)


def _pretraining(path: Path, data: Path, runs: Path, device: Device, threads: int) -> "Pretraining":
    from app.models.cards.card import CheckpointError  # noqa: PLC0415 - see above
    from app.models.registry import choose_device  # noqa: PLC0415 - see above
    from training.pretraining.config import read_pretraining_config  # noqa: PLC0415 - see above
    from training.pretraining.run import Pretraining  # noqa: PLC0415 - see above

    try:
        return Pretraining(
            read_pretraining_config(path),
            data,
            runs,
            device=choose_device(device),
            threads=threads,
            processes=usable_cores(),
            report=print_graphs,
        )
    except (FileNotFoundError, TypeError, ValueError, CheckpointError) as error:
        raise typer.BadParameter(str(error)) from error


def print_graphs(done: int, total: int) -> None:
    """Print how many graphs have been made."""
    typer.echo(f"graphs: {done}/{total}", err=True)


def _fold_numbers(text: str) -> list[int]:
    numbers: set[int] = set()
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            numbers |= set(range(int(first), int(last or first) + 1))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of folds, such as 0 or 0,1,2 or 0-9") from error
    if not numbers:
        raise typer.BadParameter(f"{text!r} names no fold; write the smaller number first, such as 3-5")
    return sorted(numbers)


def _print_epoch(label: str, report: "EpochReport") -> None:
    minutes, seconds = divmod(round(report.seconds_left), 60)
    running = f" and {report.part:.0%} of the next" if report.part else ""
    validation = "" if report.validation_loss is None else f", validation {report.validation_loss:.4f}"
    typer.echo(
        f"{label}: epoch {report.epoch}/{report.epochs}{running}, loss {report.loss:.4f}{validation}, "
        f"{minutes}:{seconds:02d} left",
        err=True,
    )


def _print_properties(table: dict[str, dict[str, Any]], title: str) -> None:
    shown = Table("property", "rows", "unit", "mean absolute error", "of the median", "times better", title=title)
    for name, row in table.items():
        median = f"{row['median_predictor_mae']:.3f}"
        shown.add_row(name, str(row["rows"]), row["unit"], _figure(row["mae"]), median, _figure(row["times_better"]))
    Console(width=int(os.environ.get("COLUMNS", "140"))).print(shown)


def _print_conductivity(tables: dict[str, dict[str, Any]], name: str) -> None:
    """Print what a conductivity model, trees and the median get out of fold, in each folding."""
    for folding, table in tables.items():
        shown = Table("", "model", "trees on composition", "median", title=f"{name}, {folding}, out of fold")
        for metric in ("mae_decades", "rank", "roc_1e-4", "roc_1e-3"):
            shown.add_row(metric, *[_figure(table[one][metric]) for one in ("model", "trees", "median")])
        Console(width=int(os.environ.get("COLUMNS", "120"))).print(shown)
        for metric in ("less_than_trees_decades", "less_than_median_decades", "coverage", "interval_width_decades"):
            typer.echo(f"  {metric}: {_figure(table[metric])}")
        typer.echo(f"  bounds at or above the prediction: {table['model']['bounds_held']:.2f} of {table['bounds']}")
        if table.get("bounds_reached") is not None:  # cards of version 1 have none
            typer.echo(f"  bounds that the interval reaches down to: {table['bounds_reached']:.2f}")


def _print_figures(table: dict[str, object], title: str) -> None:
    shown = Table(title=title)
    shown.add_column("")
    groups = {name: values for name, values in table.items() if isinstance(values, dict)}
    for name, values in groups.items():
        shown.add_column(f"{name} ({values['rows']} rows)", justify="right")
    first = next(iter(groups.values()))
    for metric in first:
        if metric != "rows":
            shown.add_row(metric, *[_figure(values[metric]) for values in groups.values()])
    Console(width=int(os.environ.get("COLUMNS", "100"))).print(shown)


def _figure(value: object) -> str:
    if isinstance(value, dict) and value["value"] is None:
        return "not defined"
    if isinstance(value, dict):
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:.3f}"
