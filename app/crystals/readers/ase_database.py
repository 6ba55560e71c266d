"""ASE's SQLite database, a `.db`: read in memory through ase.db; SQL in the file cannot run, nothing is unpickled.

The queries here are of an uploaded file; those of the service's own tables are in `app.storage`.
"""

import sqlite3
from dataclasses import replace

import numpy as np
from ase.db.sqlite import SQLite3Database

from app.crystals.limits import Limits
from app.crystals.readers.ase_trajectory import frame_of_arrays
from app.crystals.readers.frames import Frame
from app.crystals.readers.reading import File, several_hops
from app.errors import FormatError

_EXPECTED = "a database as ase.io.write('band.db', images) writes it, in its current form"
#: Larger than any energy in eV, and far below overflow.
_LARGEST = 1e9
_COLUMNS = ["id", "numbers", "positions", "cell", "pbc", "energy"]
#: Steps of SQLite's machine between two looks at how many were made, and the most looks.
_STEPS, _MOST_LOOKS = 10_000, 20_000
#: What the queries of ase.db need, and views or triggers that a hostile file may hold in place of tables do not get.
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ})
_ALLOWED_FUNCTIONS = frozenset({"count"})


def read_ase_database(file: File, limits: Limits) -> tuple[Frame, ...]:
    """Read every row in the order of their ids: https://ase-lib.org/ase/db/db.html.

    Only atomic numbers, positions, cell, periodicity and the energy are selected.

    Raises:
        FormatError: kinds "unreadable-database", "several-bands".
        InputError: kinds "unknown-element", "not-a-cell", "not-coordinates".
        TooLargeError: atoms or images.
    """
    connection = sqlite3.connect(":memory:")
    try:
        connection.deserialize(file.content)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(len(file.content), _STEPS))
        connection.set_authorizer(_authorize)
        looks = iter(range(_MOST_LOOKS))
        connection.set_progress_handler(lambda: int(next(looks, None) is None), _STEPS)
        return _rows(connection, file, limits)
    except (sqlite3.Error, OSError, *_BROKEN) as error:
        raise _unreadable(file, f"it cannot be read ({type(error).__name__}: {str(error)[:100]})") from error
    finally:
        connection.close()


#: What ase.db and NumPy raise at columns that hold something else.
_BROKEN = (ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, OverflowError, RecursionError)


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    del first
    allowed = action in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and second in _ALLOWED_FUNCTIONS)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _rows(connection: sqlite3.Connection, file: File, limits: Limits) -> tuple[Frame, ...]:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"systems", "number_key_values"} <= tables:
        raise _unreadable(file, "it is not one of ASE, which has a table of systems")
    hops = connection.execute("SELECT DISTINCT value FROM number_key_values WHERE key = 'hop' LIMIT 20").fetchall()
    if len(hops) > 1:
        raise several_hops(file.name, [str(value)[:20] for (value,) in hops])
    database = SQLite3Database(file.name)
    # In place of a connection that it would open by the name, as ase.db's own `with` sets it.
    database.connection, database.change_count = connection, 0
    frames: list[Frame] = []
    for index, row in enumerate(database.select(include_data=False, columns=_COLUMNS)):
        limits.check_images(index + 1, file.name)
        numbers = np.array(row.numbers, dtype=np.int64)
        limits.check_atoms(len(numbers), f"{file.name}, row {index + 1}")
        frame = frame_of_arrays(
            numbers,
            np.array(row.positions, dtype=np.float64),
            np.array(row.cell, dtype=np.float64),
            file=file,
            what=f"row {index + 1}",
            periodic=bool(np.all(row.pbc)),
        )
        energy = row.get("energy")
        usable = isinstance(energy, int | float) and abs(energy) < _LARGEST
        frames.append(replace(frame, energy_ev=float(energy) if usable else None))
    if not frames:
        raise _unreadable(file, "it has no rows")
    return tuple(frames)


def _unreadable(file: File, detail: str) -> FormatError:
    return FormatError(
        f"{file.name} is an SQLite database, but {detail}.",
        kind="unreadable-database",
        where=file.name,
        expected=_EXPECTED,
    )
