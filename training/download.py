"""Downloads of pinned files: resumed where a connection broke, and renamed into place once the SHA-256 is right."""

import hashlib
import re
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import httpx

DATA_FILES = Path(__file__).resolve().parent / "data_files.toml"
#: Waits before retries after a broken connection or a busy server; progress resets the count of retries.
PAUSES_S = (1.0, 3.0, 10.0, 30.0)
TIMEOUT_S = 60.0
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout)

Report = Callable[[str, int, int], None]


class DownloadError(Exception):
    """A file that could not be downloaded; the message says which, from where and why."""


class NoServerError(DownloadError):
    """Nothing answers at the address, and so there will be no other file either."""


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A pinned file, known before it is downloaded.

    Attributes:
        name: its path under the base URL and in the data folder.
        sha256: in hexadecimal.
        size_bytes: its size.
    """

    name: str
    sha256: str
    size_bytes: int


def read_data_files(path: Path = DATA_FILES) -> tuple[DataFile, ...]:
    """The pinned files listed in a TOML file."""
    listed = tomllib.loads(path.read_text(encoding="utf-8"))["files"]
    return tuple(DataFile(name=one["name"], sha256=one["sha256"], size_bytes=one["bytes"]) for one in listed)


def fetch(
    files: Sequence[DataFile], base_url: str, folder: Path, *, report: Report, pauses_s: Sequence[float] = PAUSES_S
) -> None:
    """Download the files that are missing from a folder; files that exist are only checked.

    A file that cannot be had, or differs, is reported once all others were tried.

    Args:
        files: each is at its name under the base URL, and in the folder.
        base_url: http or https.
        folder: of the data; created if it is missing.
        report: called with a file's name, the bytes downloaded so far, and its size in bytes.
        pauses_s: waits before retries, seconds.

    Raises:
        DownloadError: a file of that name exists and differs, the server does not have it or does not answer, or its
            content is not the pinned one; names every such file.
    """
    problems: list[DownloadError] = []
    answers = True
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT_S, headers={"Accept-Encoding": "identity"}) as client:
        for file in files:
            path = folder / file.name
            try:
                if path.is_file():
                    _check_there(file, path)
                elif answers:
                    _Download(file, f"{base_url.rstrip('/')}/{file.name}", path, client, report).run(pauses_s)
                else:
                    problems.append(DownloadError(f"{file.name} was not tried, since nothing answered before"))
            except DownloadError as problem:
                problems.append(problem)
                answers = answers and not isinstance(problem, NoServerError)
    if problems:
        raise DownloadError("\n".join(str(problem) for problem in problems)) from problems[0]


def _check_there(file: DataFile, path: Path) -> None:
    found = _sha256(path)
    if found != file.sha256:
        raise DownloadError(
            f"{path} exists with the SHA-256 {found}, and {file.sha256} is pinned: move it away to download the "
            "pinned file, or leave --from-url out to use it unchanged"
        )


class _BrokenError(Exception):
    """The connection ended too early, or the server is busy: a retry may succeed."""


class _Download:
    """One download.

    The part downloaded so far is kept next to the file as `.part`, with the server's validator (ETag) as `.tag`: with
    `If-Range` the server sends the whole file if it has changed since.
    """

    def __init__(self, file: DataFile, url: str, path: Path, client: httpx.Client, report: Report) -> None:
        self._file = file
        self._url = url
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._tag = path.with_name(f"{path.name}.tag")
        self._client = client
        self._report = report
        self._resumed = False

    def run(self, pauses_s: Sequence[float]) -> None:
        """Download, check, and rename the file into place."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._resumed = self._here_bytes > 0
        self._fetch_all(pauses_s)
        if self._resumed and _sha256(self._part) != self._file.sha256:  # the beginning may be of an earlier version
            self._start_anew()
            self._fetch_all(pauses_s)
        found = _sha256(self._part)
        if found != self._file.sha256:
            self._start_anew()
            raise DownloadError(
                f"{self._url} has the SHA-256 {found}, and {self._file.sha256} is pinned: it is another file, "
                "and was not kept"
            )
        self._part.replace(self._path)
        self._tag.unlink(missing_ok=True)

    @property
    def _here_bytes(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _start_anew(self) -> None:
        self._part.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)

    def _fetch_all(self, pauses_s: Sequence[float]) -> None:
        """Download until the file is complete, retrying after a pause where the connection breaks."""
        tries, most_bytes = 0, self._here_bytes
        while self._here_bytes < self._file.size_bytes:
            try:
                self._fetch()
            except (_BrokenError, httpx.TransportError) as error:
                if isinstance(error, httpx.UnsupportedProtocol):
                    raise NoServerError(f"{self._url} is not an http or https address") from error
                # A server that sends the file from the beginning each time makes no progress.
                tries = 0 if self._here_bytes > most_bytes else tries
                most_bytes = max(most_bytes, self._here_bytes)
                if tries == len(pauses_s):
                    reason = str(error) or type(error).__name__
                    failure = NoServerError if isinstance(error, _NO_CONNECTION) else DownloadError
                    raise failure(
                        f"{self._url} did not give the file in {tries + 1} tries: {reason}; "
                        f"{self._here_bytes:,} of {self._file.size_bytes:,} bytes are kept, and the same command "
                        "resumes from there"
                    ) from error
                time.sleep(pauses_s[tries])
                tries += 1
            except (httpx.InvalidURL, OverflowError) as error:  # a port past 65535 overflows
                raise NoServerError(f"{self._url} cannot be downloaded: {error}") from error
            except httpx.HTTPError as error:
                raise DownloadError(f"{self._url} cannot be downloaded: {error}") from error

    def _fetch(self) -> None:
        """Send one request for the missing part, and write the response."""
        start = self._here_bytes
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and self._tag.is_file():
            headers["If-Range"] = self._tag.read_text(encoding="ascii")
        with self._client.stream("GET", self._url, headers=headers) as response:
            self._check_status(response)
            goes_on = response.status_code == HTTPStatus.PARTIAL_CONTENT and _range_start(response) == start
            if response.status_code == HTTPStatus.PARTIAL_CONTENT and not goes_on:
                self._start_anew()
                raise _BrokenError("the server sent another range than the one requested")
            self._resumed |= goes_on
            if not goes_on:  # the server does not support ranges, or the file has changed: this is the whole file
                self._start_anew()
                self._keep_tag(response)
            with self._part.open("ab") as part:
                self._write(response, part.write)
        if self._here_bytes < self._file.size_bytes:
            raise _BrokenError("the connection ended before the file did")

    def _check_status(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._start_anew()
            raise _BrokenError("the server's file is shorter than the part downloaded already")
        if status in _BUSY:
            raise _BrokenError(f"the server answered {status} {response.reason_phrase}")
        if status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            raise DownloadError(
                f"{self._url} answered {status} {response.reason_phrase}: check the base URL, under which "
                f"{self._file.name} is expected"
            )

    def _keep_tag(self, response: httpx.Response) -> None:
        """Keep a strong validator: only these are allowed in If-Range (RFC 9110, 13.1.5)."""
        tag = response.headers.get("etag", "")
        if tag.startswith('"') and tag.isascii():
            self._tag.write_text(tag, encoding="ascii")

    def _write(self, response: httpx.Response, write: Callable[[bytes], int]) -> None:
        done = self._here_bytes
        for chunk in response.iter_raw():  # raw: a server may call a .gz file a gzip encoding of something else
            done += len(chunk)
            if done > self._file.size_bytes:
                self._start_anew()
                raise DownloadError(
                    f"{self._url} has more than the {self._file.size_bytes:,} bytes that are pinned: it is "
                    "another file, and was not kept"
                )
            write(chunk)
            self._report(self._file.name, done, self._file.size_bytes)


def _range_start(response: httpx.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
    return int(match[1]) if match else None


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
