"""The output folder: tables written piece by piece, each whole or absent, and what a later run finds of them."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from pyarrow import dataset, parquet

from app.screening.errors import ScreeningError
from app.screening.job import differences
from app.screening.rows import SCHEMAS
from app.screening.sources.items import digest_of

RUN_FILE = "run.json"
#: In this order: a piece counts once its last file is there, so that rows of a crystal are never without its hops.
_TABLES = ("hops", "failures", "crystals")
_LOCK_FILE = ".lock"
_PENDING = ".pending"
#: The state of a run that has no rows yet.
_LISTING = "listing"


class Output:
    """The folder of a screening; used by one process at a time.

    Attributes:
        folder: the output folder.
        run: the content of run.json.
        done: digests of the inputs that have their rows.

    Args:
        folder: created where it is missing.
        settings: what the rows depend on (`Job.settings`).
        restart: throw away what an earlier run left there.

    Raises:
        ScreeningError: it holds something else, or an earlier run with other settings.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, restart: bool) -> None:
        self.folder = folder
        self.run: dict[str, Any] = {}
        self._begin(settings, restart=restart)
        self.done: set[bytes] = set()
        self._remove_unfinished()
        pieces = sorted(path.stem for path in self._table("crystals").glob("*.parquet"))
        self._next = 1 + max((int(name.removeprefix("piece-")) for name in pieces), default=0)
        for name in ("crystals", "failures"):
            for batch in self.dataset(name).to_batches(columns=["input"]):
                self.done.update(digest_of(one) for one in batch.column("input").to_pylist())

    def dataset(self, name: str) -> dataset.Dataset:
        """One of the tables."""
        return table_of_folder(self.folder, name)

    def write(self, tables: Mapping[str, pa.Table]) -> None:
        """Write a piece: of each table a file, whole or absent, the piece too.

        Raises:
            ScreeningError: it cannot be written, such as where the disk is full; nothing of it is left.
        """
        name = f"piece-{self._next:06d}.parquet"
        pending: list[tuple[Path, Path]] = []
        try:
            for table in _TABLES:
                final = self._table(table) / name
                temporary = final.with_name(f".{name}{_PENDING}")
                pending.append((temporary, final))
                parquet.write_table(tables[table], temporary, compression="zstd")
                _to_disk(temporary)
            for temporary, final in pending:
                temporary.rename(final)
                _to_disk(final.parent)
        except (OSError, pa.ArrowException) as error:
            for temporary, final in pending:
                for path in (temporary, final):
                    with contextlib.suppress(OSError):
                        path.unlink(missing_ok=True)
            raise cannot_write(self.folder, error) from error
        self._next += 1

    def write_run(self, **changes: Any) -> None:
        """Write run.json with some fields changed.

        Raises:
            ScreeningError: it cannot be written; the earlier one is left.
        """
        run = {**self.run, **changes}
        path = self.folder / RUN_FILE
        temporary = path.with_name(f".{RUN_FILE}{_PENDING}")
        try:
            temporary.write_bytes(orjson.dumps(run, option=orjson.OPT_INDENT_2))
            _to_disk(temporary)
            temporary.rename(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise cannot_write(self.folder, error) from error
        self.run = run

    @property
    def has_pieces(self) -> bool:
        """Whether there is one; without any the tables have no schema."""
        return self._next > 1

    def _table(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def _begin(self, settings: Mapping[str, Any], *, restart: bool) -> None:
        """Go on with what an earlier run left, once it is clear that this one may, or begin anew; makes the folders."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            earlier = read_run(self.folder)
            others = [path.name for path in self.folder.iterdir() if not path.name.startswith(".")]
            if earlier is None and others:
                raise ScreeningError(
                    f"{self.folder} is not empty and holds no {RUN_FILE} of a screening: name another folder."
                )
            # One that was stopped while it listed has no rows, or those that its own restart had still to delete.
            if earlier is None or restart or earlier.get("state") == _LISTING:
                self.run = {"settings": dict(settings)}
                self.write_run(state=_LISTING)  # before the folders: what is there without run.json is not ours
                for name in _TABLES:
                    if self._table(name).exists():
                        shutil.rmtree(self._table(name))
            elif changed := differences(earlier["settings"], settings):
                raise ScreeningError(
                    f"{self.folder} holds a screening with other settings: {'; '.join(changed)}. Give the same again "
                    "to go on with it, name another folder, or --restart to begin anew, which deletes its rows."
                )
            else:
                self.run = earlier
            for name in _TABLES:
                self._table(name).mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error

    def _remove_unfinished(self) -> None:
        """Remove what a killed run left of a piece."""
        whole = {path.name for path in self._table("crystals").glob("*.parquet")}
        for name in _TABLES:
            for path in self._table(name).iterdir():
                if path.name.endswith(_PENDING) or (path.suffix == ".parquet" and path.name not in whole):
                    path.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other screenings out of a folder; the lock ends with the process, however it ends.

    Raises:
        ScreeningError: another process screens into it now, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK_FILE).open("w")
    except OSError as error:
        raise cannot_write(folder, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ScreeningError(f"Another ionpath screen writes to {folder} now.") from error
        except OSError as error:
            raise cannot_write(folder, error) from error
        yield


def read_run(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's run.json; None where there is none.

    Raises:
        ScreeningError: it is no file of a screening.
    """
    try:
        content = (folder / RUN_FILE).read_bytes()
    except FileNotFoundError:
        return None
    try:
        run = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ScreeningError(f"{folder / RUN_FILE} is not JSON: {error}.") from error
    if not isinstance(run, dict) or "settings" not in run:
        raise ScreeningError(f"{folder / RUN_FILE} is not of a screening.")
    return run


def table_of_folder(folder: Path, name: str) -> dataset.Dataset:
    """One of the tables of a screening, by its name without `.parquet`."""
    schema = SCHEMAS[name]
    return dataset.dataset(folder / f"{name}.parquet", format="parquet", schema=schema, exclude_invalid_files=False)


def cannot_write(folder: Path, error: Exception) -> ScreeningError:
    """The error where the output folder cannot be written."""
    number = getattr(error, "errno", None)
    if number in {errno.ENOSPC, errno.EDQUOT} or "No space left" in str(error):
        return ScreeningError(
            f"The disk of {folder} is full. What was written is whole, and nothing is half written: make room, and the "
            "same command goes on."
        )
    return ScreeningError(f"{folder} cannot be written: {getattr(error, 'strerror', None) or error}.")


def _to_disk(path: Path) -> None:
    """Have the system write a file or folder out, so that a power cut leaves it whole."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
