"""Records in a process which files of `app/` its calls go through, while a flag is up; standard library alone.

A `sitecustomize.py` that imports this records every process that Python starts, and those forked from them: the worker
processes of a service, whatever they are.
"""

import mmap
import os
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

FOLDER_VARIABLE = "PATH_PROBE_FOLDER"
_FLAG = "flag"
_APP = f"{os.sep}app{os.sep}"


class Probe:
    """Writes a line for each call of a function of `app/`: the process, the thread and the file.

    Args:
        folder: where the flag is, and a file for each process.
        root: the repository.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._app = f"{root}{_APP}"
        self._root_length = len(str(root)) + 1
        with (folder / _FLAG).open("r+b") as flag:
            self._flag = mmap.mmap(flag.fileno(), 1)
        self._written: tuple[int, int] | None = None  # process id and file descriptor

    @property
    def recording(self) -> bool:
        """Whether calls are recorded now, in all processes."""
        return self._flag[0] == 1

    @recording.setter
    def recording(self, wanted: bool) -> None:
        self._flag[0] = int(wanted)

    def install(self) -> None:
        """Record this thread and all that start after it, and processes forked from them."""
        threading.setprofile(self._see)
        sys.setprofile(self._see)

    def _see(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and self._flag[0] == 1 and frame.f_code.co_filename.startswith(self._app):
            line = f"{threading.get_native_id()} {frame.f_code.co_filename[self._root_length :]}\n"
            os.write(self._descriptor(), line.encode())

    def _descriptor(self) -> int:
        process = os.getpid()
        if self._written is None or self._written[0] != process:
            path = self._folder / f"{process}.calls"
            self._written = process, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return self._written[1]


def make_flag(folder: Path) -> None:
    """The flag, down."""
    (folder / _FLAG).write_bytes(b"\0")


def install_where_wanted() -> None:
    """Record this process where the variable names a folder; of `sitecustomize.py`."""
    if folder := os.environ.get(FOLDER_VARIABLE):
        Probe(Path(folder), Path(__file__).resolve().parent.parent).install()
