"""The output folder: pieces whole or absent, one writer, the same settings."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from app.screening.errors import ScreeningError, lines_of
from app.screening.pieces import Output, locked, read_run
from app.screening.rows import SCHEMAS, table_of
from app.screening.sources.items import digest_of

SETTINGS = {"ions": ["Li"], "threshold_ev": 0.65}


def tables(*names: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [{"id": name, "input": name, "ion": "Li"} for name in names]
    return {
        "crystals": table_of("crystals", rows),
        "hops": table_of("hops", rows),
        "failures": table_of("failures", []),
    }


def opened(folder: Path, *, restart: bool = False, **changes: Any) -> Output:
    return Output(folder, {**SETTINGS, **changes}, restart=restart)


def test_a_later_run_finds_what_is_done(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.write_run(state="running")
    first.write(tables("a", "b"))
    first.write(tables("c"))
    again = opened(tmp_path)
    assert again.done == {digest_of(name) for name in "abc"}
    again.write(tables("d"))
    assert sorted(pd.read_parquet(tmp_path / "crystals.parquet").id) == ["a", "b", "c", "d"]
    assert list(pd.read_parquet(tmp_path / "failures.parquet").columns) == SCHEMAS["failures"].names


def test_a_piece_that_was_not_whole_is_removed(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.write_run(state="running")
    first.write(tables("a"))
    first.write(tables("b"))
    (tmp_path / "crystals.parquet" / "piece-000002.parquet").unlink()  # killed before its last file was there
    (tmp_path / "hops.parquet" / ".piece-000003.parquet.pending").write_bytes(b"half")
    assert opened(tmp_path).done == {digest_of("a")}
    assert [path.name for path in (tmp_path / "hops.parquet").iterdir()] == ["piece-000001.parquet"]


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    opened(tmp_path).write_run(state="running")
    with pytest.raises(ScreeningError, match=r"ions was \['Li'\] and is \['Na'\].*--restart"):
        opened(tmp_path, ions=["Na"])
    first = opened(tmp_path)
    first.write(tables("a"))
    assert not opened(tmp_path, ions=["Na"], restart=True).done


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, restart: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ScreeningError, match="not empty"):
        opened(tmp_path, restart=restart)
    assert (tmp_path / "thesis.tex").exists()


def test_two_screenings_do_not_share_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ScreeningError, match="Another ionpath screen"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_run_stopped_while_it_lists_can_be_begun_again(tmp_path: Path) -> None:
    opened(tmp_path)
    assert read_run(tmp_path) == {"settings": SETTINGS, "state": "listing"}
    assert opened(tmp_path, ions=["Na"]).run["settings"]["ions"] == ["Na"]  # it had no rows to lose


def test_a_restart_stopped_before_its_rows_are_deleted_does_not_take_them_for_its_own(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.write_run(state="complete", counts={})
    first.write(tables("a"))
    first.run = {"settings": {**SETTINGS, "ions": ["Na"]}}
    first.write_run(state="listing")  # what a restart does first
    again = opened(tmp_path, ions=["Na"])
    assert not again.done
    assert not again.has_pieces


def test_an_error_of_the_run_is_not_one_of_its_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), locked(tmp_path):
        (tmp_path / "elsewhere").read_bytes()
    (tmp_path / "file").write_text("")
    with pytest.raises(ScreeningError, match="cannot be written"), locked(tmp_path / "file" / "out"):
        pass


def test_an_error_without_text_is_named_by_its_type() -> None:
    assert lines_of(ConnectionError()) == ["ConnectionError"]
    assert lines_of(ValueError("\n one\ntwo\n")) == ["one", "two"]


def test_a_run_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(ScreeningError, match="not of a screening"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text("no")
    with pytest.raises(ScreeningError, match="not JSON"):
        opened(tmp_path)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A file system of 256 KiB in a namespace of its own, which the kernel takes away with the process."""
    script = tmp_path / "fill.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import random, subprocess, sys
            from pathlib import Path
            from app.screening.errors import ScreeningError
            from app.screening.pieces import Output
            from app.screening.rows import table_of
            if subprocess.call(["mount", "-t", "tmpfs", "-o", "size=256k", "none", {str(tmp_path / "small")!r}]):
                sys.exit(77)
            folder = Path({str(tmp_path / "small")!r}) / "out"
            output = Output(folder, {{}}, restart=False)
            output.write_run(state="running")
            for number in range(100):
                words = random.Random(number).randbytes(20_000).hex()
                rows = [{{"id": str(number), "input": str(number), "ion": "Li", "formula": words}}]
                names = ("crystals", "hops", "failures")
                tables = {{name: table_of(name, rows if name == "crystals" else []) for name in names}}
                try:
                    output.write(tables)
                except ScreeningError as error:
                    again = Output(folder, {{}}, restart=False)
                    files = [path.name for path in folder.rglob("*") if "pending" in path.name]
                    print(error)
                    print(number, len(again.done), files)
                    break
            """
        )
    )
    (tmp_path / "small").mkdir()
    command = ["unshare", "--mount", "--map-root-user", sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert done.returncode == 0, done.stderr
    said, counts = done.stdout.splitlines()
    assert "is full" in said
    assert "the same command goes on" in said
    number, kept, left = counts.split(maxsplit=2)
    assert int(number) == int(kept) > 1
    assert left == "[]"
