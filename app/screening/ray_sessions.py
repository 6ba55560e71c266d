"""Ray, started on this machine for one screening, or a cluster that runs already."""

import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from app.cores import usable_cores
from app.screening.errors import ScreeningError, lines_of

#: Blocks that wait between reading and predicting, and rows that wait to be written.
_STORE_BYTES = 256 << 20
_LOCAL = "127.0.0.1"
_FOLDER_PREFIX = "ionpath-ray-"
_TOKEN_BYTES = 32
#: What Ray says where there are fewer batches of crystals than workers, as of any short run.
_FEW_BATCHES = "The minimum number of concurrent actors"


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What a screening runs on.

    Attributes:
        workers: processes that predict.
        gpus: whether each has a GPU.
        readers: processes that read crystals, beside each.
    """

    workers: int
    gpus: bool
    readers: int


@contextmanager
def ray_session(address: str | None, workers: int | None) -> Iterator[Machines]:
    """Start Ray here, or connect to a cluster; leave nothing running.

    Started here it binds the loopback alone, asks for a token that nobody else has, reports no usage and has no
    dashboard.

    Args:
        address: of a cluster; None starts Ray here.
        workers: processes that predict; None takes all cores or GPUs.

    Raises:
        ScreeningError: the cluster cannot be reached, or has nothing to predict on.
    """
    folder = None if address else _session_folder()
    _prepare_environment(here=address is None)
    ray = _ray()
    # Ray prints on standard output that the tasks of a worker that died are tried again, which is as it should be.
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_FEW_BATCHES, category=UserWarning)
        yield from _session(ray, address, workers, folder)


def _session(ray: ModuleType, address: str | None, workers: int | None, folder: str | None) -> Iterator[Machines]:
    try:
        if address is None:
            cores = workers or usable_cores()
            with _quiet():
                ray.init(
                    address="local",
                    num_cpus=cores,
                    include_dashboard=False,
                    object_store_memory=_STORE_BYTES,
                    _node_ip_address=_LOCAL,
                    _temp_dir=folder,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        else:
            _connect(ray, address)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray's own ends the process on the spot
        yield _machines(ray, workers)
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _session_folder() -> str:
    """A folder for Ray's sockets and logs, by this process's id; those that killed processes left are removed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*-*"):
        owner = path.name.removeprefix(_FOLDER_PREFIX).partition("-")[0]
        if owner.isdecimal() and not _runs(int(owner)):
            shutil.rmtree(path, ignore_errors=True)  # another user's stays
    return tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-")


def _runs(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _prepare_environment(*, here: bool) -> None:
    """What Ray reads from the environment, in this process and in those that it starts."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # lines of its C++ on standard error, of no use to anybody
    if here:
        # Ray's own switch for macOS and Windows: without clusters it binds the loopback, not every address.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Another user of this machine could run code through the loopback.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(_TOKEN_BYTES)


def _ray() -> ModuleType:
    import ray  # noqa: PLC0415 # after the environment, which it reads when it is imported
    import ray.data  # noqa: PLC0415

    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A row is a batch of crystals, and a block holds one, however small: it is what a dying worker takes with it.
    context.target_max_block_size = 1
    return ray


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from standard error what Ray's C++ writes there while it starts; what fails is raised as well."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 # a descriptor is wanted
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _connect(ray: ModuleType, address: str) -> None:
    try:
        with _quiet():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ScreeningError(
            f"No Ray cluster answers at {address}: {lines_of(error)[0]} A cluster with a token needs "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here as well."
        ) from error


def _machines(ray: ModuleType, workers: int | None) -> Machines:
    resources = ray.cluster_resources()
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if gpus:
        count = min(workers or gpus, gpus)
        return Machines(workers=count, gpus=True, readers=max(1, cpus // count - 1))
    count = min(workers or cpus, cpus)
    if count < 1:
        raise ScreeningError("The Ray cluster has no CPUs to predict on.")
    return Machines(workers=count, gpus=False, readers=1)
