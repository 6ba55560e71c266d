"""Downloads of the data from a real HTTP server on the loopback: broken, stubborn, wrong, or not there."""

import gzip
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.data_cli import data
from training.download import DataFile, DownloadError, fetch, read_data_files

CONTENT = gzip.compress(bytes(range(256)) * 4000, mtime=0) + bytes(range(256)) * 2000
FILE = DataFile(name="part/data.gz", sha256=hashlib.sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT))
AT_ONCE = (0.0, 0.0, 0.0)


@dataclass
class Shelf:
    """What the server gives, and what it was asked.

    Attributes:
        content: of every file.
        etag: of the content.
        ranges: whether it knows ranges.
        breaks: after how many bytes each of the next answers ends.
        statuses: of the next answers, in place of the file.
        asked: the Range and If-Range of each request.
        others: names of more files with the same content.
    """

    content: bytes = CONTENT
    etag: str = '"one"'
    ranges: bool = True
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)
    others: tuple[str, ...] = ()


class Handler(BaseHTTPRequestHandler):
    shelf: Shelf

    def do_GET(self) -> None:
        shelf = self.shelf
        wanted, only_if = self.headers["Range"], self.headers["If-Range"]
        shelf.asked.append((wanted, only_if))
        status = shelf.statuses.pop(0) if shelf.statuses else 200
        if status != 200 or self.path not in {f"/mirror/{name}" for name in (FILE.name, *shelf.others)}:
            self.send_error(status if status != 200 else 404)
            return
        start = 0
        if wanted and shelf.ranges and only_if in {None, shelf.etag}:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index] # ours
            if start >= len(shelf.content):
                self.send_error(416)
                return
        body = shelf.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(shelf.content) - 1}/{len(shelf.content)}")
        self.send_header("ETag", shelf.etag)
        self.send_header("Content-Encoding", "gzip")  # as servers say of files that end in .gz
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: shelf.breaks.pop(0)] if shelf.breaks else body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        pass


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def url(shelf: Shelf) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"shelf": shelf}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/mirror/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetched(url: str, folder: Path, file: DataFile = FILE) -> list[int]:
    """The bytes that were reported as here."""
    reports: list[tuple[str, int, int]] = []
    fetch([file], url, folder, report=lambda *progress: reports.append(progress), pauses_s=AT_ONCE)
    assert {(name, total) for name, _, total in reports} <= {(file.name, file.size_bytes)}
    return [done for _, done, _ in reports]


def only_the_file_in(folder: Path) -> bool:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return found == [folder / FILE.name] and found[0].read_bytes() == CONTENT


def test_a_file_is_downloaded_and_a_second_call_asks_for_nothing(shelf: Shelf, url: str, tmp_path: Path) -> None:
    assert fetched(url, tmp_path)[-1] == FILE.size_bytes
    assert only_the_file_in(tmp_path)
    assert shelf.asked == [(None, None)]
    assert fetched(url, tmp_path) == []
    assert len(shelf.asked) == 1


def test_a_broken_connection_is_gone_on_with_where_it_broke(shelf: Shelf, url: str, tmp_path: Path) -> None:
    shelf.breaks = [100_000, 50_000]
    fetched(url, tmp_path)
    assert only_the_file_in(tmp_path)
    assert shelf.asked == [(None, None), ("bytes=100000-", '"one"'), ("bytes=150000-", '"one"')]


def test_another_call_goes_on_where_one_was_given_up(shelf: Shelf, url: str, tmp_path: Path) -> None:
    shelf.breaks = [100_000]
    shelf.statuses = [200, 503, 503, 503]
    with pytest.raises(DownloadError, match=r"503 .*100,000 of .* bytes are kept"):
        fetched(url, tmp_path)
    assert not (tmp_path / FILE.name).exists()
    shelf.asked.clear()
    reports = fetched(url, tmp_path)
    assert min(reports) > 100_000
    assert shelf.asked == [("bytes=100000-", '"one"')]
    assert only_the_file_in(tmp_path)


def test_a_server_without_ranges_gives_the_file_from_its_beginning(shelf: Shelf, url: str, tmp_path: Path) -> None:
    shelf.breaks, shelf.ranges = [100_000], False
    fetched(url, tmp_path)
    assert only_the_file_in(tmp_path)
    assert shelf.asked == [(None, None), ("bytes=100000-", '"one"')]


def test_a_file_that_changed_meanwhile_is_begun_anew(shelf: Shelf, url: str, tmp_path: Path) -> None:
    begun = tmp_path / FILE.name
    begun.parent.mkdir()
    begun.with_name("data.gz.part").write_bytes(b"an older edition")
    begun.with_name("data.gz.tag").write_text('"zero"')
    fetched(url, tmp_path)
    assert only_the_file_in(tmp_path)
    assert shelf.asked == [("bytes=16-", '"zero"')]


def test_a_beginning_that_turns_out_wrong_is_fetched_once_more(shelf: Shelf, url: str, tmp_path: Path) -> None:
    begun = tmp_path / FILE.name
    begun.parent.mkdir()
    begun.with_name("data.gz.part").write_bytes(b"an older edition")  # and nobody knows of which
    fetched(url, tmp_path)
    assert only_the_file_in(tmp_path)
    assert shelf.asked == [("bytes=16-", None), (None, None)]


def test_what_is_longer_than_the_server_s_file_is_begun_anew(shelf: Shelf, url: str, tmp_path: Path) -> None:
    begun = tmp_path / FILE.name
    begun.parent.mkdir()
    begun.with_name("data.gz.part").write_bytes(CONTENT[:-1])
    shelf.content = CONTENT[:1000]
    with pytest.raises(DownloadError, match="ended before the file did"):
        fetched(url, tmp_path)
    assert shelf.asked[:2] == [(f"bytes={len(CONTENT) - 1}-", None), (None, None)]


def test_wrong_bytes_never_take_the_name_and_both_digests_are_named(shelf: Shelf, url: str, tmp_path: Path) -> None:
    shelf.content = CONTENT[:-1] + b"?"
    with pytest.raises(DownloadError) as caught:
        fetched(url, tmp_path)
    assert hashlib.sha256(shelf.content).hexdigest() in str(caught.value)
    assert FILE.sha256 in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_more_bytes_than_are_pinned_are_not_all_taken(shelf: Shelf, url: str, tmp_path: Path) -> None:
    shelf.content = CONTENT * 20
    with pytest.raises(DownloadError, match="more than the"):
        fetched(url, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_another_file_of_that_name_is_left_as_it_is(shelf: Shelf, url: str, tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / FILE.name).write_bytes(b"mine")
    with pytest.raises(DownloadError) as caught:
        fetched(url, tmp_path)
    assert hashlib.sha256(b"mine").hexdigest() in str(caught.value)
    assert FILE.sha256 in str(caught.value)
    assert (tmp_path / FILE.name).read_bytes() == b"mine"
    assert shelf.asked == []


def test_a_file_that_the_server_does_not_have_is_reported_at_once(shelf: Shelf, url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"other\.gz answered 404 Not Found"):
        fetched(url, tmp_path, replace(FILE, name="other.gz"))
    assert len(shelf.asked) == 1


def test_files_that_differ_or_are_missing_hold_up_no_others_and_are_all_reported(
    shelf: Shelf, url: str, tmp_path: Path
) -> None:
    shelf.others = ("wrong.gz", "last.gz")
    (tmp_path / "own.csv").write_bytes(b"from a conversion of its own")
    wrong = replace(FILE, name="wrong.gz", sha256="0" * 64)
    files = [
        replace(FILE, name="own.csv"),
        replace(FILE, name="missing.gz"),
        wrong,
        FILE,
        replace(FILE, name="last.gz"),
    ]
    with pytest.raises(DownloadError) as caught:
        fetch(files, url, tmp_path, report=lambda *_: None, pauses_s=AT_ONCE)
    own, missing, differs = str(caught.value).splitlines()
    assert f"{tmp_path / 'own.csv'} exists with the SHA-256" in own
    assert f"{url}missing.gz answered 404" in missing
    assert f"{url}wrong.gz has the SHA-256" in differs
    assert (tmp_path / FILE.name).read_bytes() == (tmp_path / "last.gz").read_bytes() == CONTENT
    assert (tmp_path / "own.csv").read_bytes() == b"from a conversion of its own"


def test_where_nothing_answers_the_other_files_are_named_and_not_waited_for(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    (tmp_path / "own.csv").write_bytes(b"mine")
    address = f"http://127.0.0.1:{free_port()}"
    files = [FILE, replace(FILE, name="next.gz"), replace(FILE, name="own.csv")]
    with pytest.raises(DownloadError) as caught:
        fetch(files, address, tmp_path, report=lambda *_: None, pauses_s=AT_ONCE)
    first, following, own = str(caught.value).splitlines()
    assert f"{address}/{FILE.name} did not give the file in 4 tries" in first
    assert following == "next.gz was not tried, since nothing answered before"
    assert "own.csv exists with the SHA-256" in own


@pytest.mark.parametrize("address", ["http://127.0.0.1:{free}", "http://[::1", "http://127.0.0.1:99999999", "nonsense"])
def test_an_address_where_nobody_answers_is_reported(
    tmp_path: Path, free_port: Callable[[], int], address: str
) -> None:
    with pytest.raises(DownloadError, match=r"did not give|cannot be downloaded|is not an http") as caught:
        fetched(address.format(free=free_port()), tmp_path)
    assert FILE.name in str(caught.value)


def test_the_pinned_files_are_those_that_training_reads(data_dir: Path) -> None:
    for file in read_data_files():
        content = (data_dir / file.name).read_bytes()
        assert (file.size_bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_shipped_barrier_models_are_fitted_on_the_pinned_files(repository: Path) -> None:
    pinned = {file.sha256: file.name for file in read_data_files()}
    found = set()
    for path in sorted((repository / "model_store").glob("*/card.json")):
        corpus = json.loads(path.read_text())["corpus"]
        if path.parent.name != "conductivity":  # its digest is of its two files in one
            found |= {pinned[one["sha256"]] for one in corpus.get("files", {"": corpus}).values()}
    assert found == {name for name in pinned.values() if not name.startswith("conductivity/")}


@pytest.mark.parametrize("command", ["download", "prepare"])
def test_the_command_line_downloads_first_and_tells_what_is_wrong(url: str, tmp_path: Path, command: str) -> None:
    done = CliRunner().invoke(data, [command, "--data", str(tmp_path), "--from-url", url], env={"COLUMNS": "400"})
    assert done.exit_code == 2
    for file in read_data_files():
        assert f"{url}{file.name} answered 404" in " ".join(done.output.split())


def test_the_command_line_finds_what_is_there(url: str, data_dir: Path, shelf: Shelf) -> None:
    done = CliRunner().invoke(data, ["download", "--data", str(data_dir)], env={"IONPATH_DATA_URL": url})
    assert done.exit_code == 0, done.output
    assert f"the data is in {data_dir}" in done.output
    assert shelf.asked == []
