"""The command line, as it is typed."""

import asyncio
import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import zipfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from api_server import IONPATH, Service, environment, ionpath, running_service
from typer.testing import CliRunner
from written_formats import rattled, traj

from app.cli import cli
from app.console.asking import Question, Result, StoppedError, ask
from app.console.remote import Remote, wait_s
from app.console.sources import Input, Source


def test_every_command_has_help_that_teaches(tmp_path: Path) -> None:
    shown = ionpath(tmp_path, "--help")
    assert shown.returncode == 0, shown.stderr
    for command in ("serve", "predict", "screen", "report", "models", "migrate", "keys", "train", "evaluate"):
        assert command in shown.stdout
    texts = {}
    for command in ("serve", "predict", "screen", "report", "models", "migrate", "keys"):
        done = CliRunner().invoke(cli, [command, "--help"], env={"COLUMNS": "500"})
        assert done.exit_code == 0, command
        texts[command] = done.stdout
    assert "IONPATH_" in texts["serve"]
    predicting = texts["predict"]
    for option in ("--mechanism", "--max-hops", "--max-hop-angstrom", "--interstitials", "--include-close-hops"):
        assert option in predicting
    assert "--second-opinion" in predicting


def test_predict_asks_a_service_and_writes_json_lines(tmp_path: Path, service: Service, examples: Path) -> None:
    files = [examples / name for name in ("LiFePO4_band.json", "LiFePO4_neb.zip", "LiCoO2.cif", "README.md")]
    done = ionpath(tmp_path, "predict", *files, "--ion", "Li", "--url", service.url, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["file"] for line in lines] == [file.name for file in files]
    assert lines[0]["barrier_ev"] == pytest.approx(lines[1]["barrier_ev"], abs=5e-3)
    assert len(lines[2]["hops"]) > 1
    assert lines[3]["problem"]["detail"]
    assert done.returncode == 1  # the last one is no crystal


def test_predict_here_gives_what_the_service_gives(tmp_path: Path, service: Service, examples: Path) -> None:
    folder = tmp_path / "neb"
    with zipfile.ZipFile(examples / "LiFePO4_neb.zip") as archive:
        archive.extractall(folder)
    (folder / "WAVECAR").write_bytes(os.urandom(1000))
    words: tuple[str | Path, ...] = ("predict", folder, examples / "LiCoO2.cif", "--ion", "Li", "--csv")
    words += ("--initial", examples / "LiFePO4_initial.cif", "--final", examples / "LiFePO4_final.cif")
    here, there = ionpath(tmp_path, *words), ionpath(tmp_path, *words, "--url", service.url)
    assert (here.returncode, there.returncode) == (0, 0), here.stderr
    tables = [list(csv.DictReader(io.StringIO(done.stdout))) for done in (here, there)]
    assert len(tables[0]) == len(tables[1]) > 3
    for mine, its in zip(*tables, strict=True):
        assert (mine["file"], mine["hop"]) == (its["file"], its["hop"])
        assert float(mine["barrier_ev"] or 0) == pytest.approx(float(its["barrier_ev"] or 0), abs=2e-4)
        in_1d = mine["percolation_1d_ev"]
        assert bool(in_1d) == (mine["file"] == "LiCoO2.cif")
        assert float(in_1d or 0) == pytest.approx(float(its["percolation_1d_ev"] or 0), abs=2e-4)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_crystal_takes_what_the_http_call_takes(tmp_path: Path, service: Service, examples: Path) -> None:
    """Each option changes what it should, here as by the service."""
    crystal = examples / "LiFePO4.cif"
    words: tuple[str | Path, ...] = ("predict", crystal, examples / "LiFePO4_band.json", "--ion", "Li", "--json")
    words += ("--max-hop-angstrom", "4", "--interstitials", "--include-close-hops", "--second-opinion", "bvse")
    here, there = ionpath(tmp_path, *words), ionpath(tmp_path, *words, "--url", service.url)
    assert (here.returncode, there.returncode) == (0, 0), here.stderr + there.stderr
    mine, its = (json.loads(done.stdout.splitlines()[0]) for done in (here, there))
    for answer in (mine, its):
        assert max(hop["distance_angstrom"] for hop in answer["hops"]) <= 4.0
        assert {site["occupancy"] for site in answer["sites"]} == {0.0, 1.0}
        assert not any("nearer than 1.2" in (hop["excluded_because"] or "") for hop in answer["hops"])
        assert answer["second_opinion"]["answered"]
    assert mine["percolation_ev"] == pytest.approx(its["percolation_ev"], abs=2e-4)
    fewer = [word for word in words if word not in {"--include-close-hops", "--second-opinion", "bvse"}]
    answer = json.loads(ionpath(tmp_path, *fewer, "--url", service.url).stdout.splitlines()[0])
    assert any("nearer than 1.2" in (hop["excluded_because"] or "") for hop in answer["hops"])
    assert "second_opinion" not in answer
    plain = json.loads(ionpath(tmp_path, "predict", crystal, "--ion", "Li", "--json", "--url", service.url).stdout)
    assert {site["occupancy"] for site in plain["sites"]} == {1.0}
    assert max(hop["distance_angstrom"] for hop in plain["hops"]) > 4.0


@pytest.mark.parametrize("there", [False, True])
def test_the_ion_that_is_asked_for_is_the_one_that_is_answered(
    tmp_path: Path, service: Service, examples: Path, there: bool
) -> None:
    (tmp_path / "md.traj").write_bytes(traj(rattled()))
    words: tuple[str | Path, ...] = ("predict", examples / "LiFePO4_band.extxyz", examples / "LiFePO4_neb.zip")
    words += (tmp_path / "md.traj", "--json", "--max-hops", "4", *(("--url", service.url) if there else ()))
    of_sodium = ionpath(tmp_path, *words, "--ion", "Na")
    assert of_sodium.returncode == 1
    first, second, _ = (json.loads(line) for line in of_sodium.stdout.splitlines())
    for line in (first, second):
        assert line["problem"]["detail"] == "The band's ion is Li, and Na was asked for."
    of_lithium = ionpath(tmp_path, *words, "--ion", "Li")
    assert of_lithium.returncode == 0, of_lithium.stderr
    *bands, crystal = (json.loads(line) for line in of_lithium.stdout.splitlines())
    assert [line["ion"] for line in (*bands, crystal)] == ["Li", "Li", "Li"]
    assert not any("hops" in line for line in bands)
    assert crystal["hops"]
    assert any("of 10 frames that show no hop, and the last was read" in text for text in crystal["warnings"])


def test_more_hops_than_a_service_gives_at_once_come_as_a_job(tmp_path: Path, examples: Path) -> None:
    words: tuple[str | Path, ...] = ("predict", examples / "LiCoO2.cif", "--ion", "Li", "--json", "--max-hops", "9")
    (tmp_path / "server").mkdir()
    with running_service(tmp_path / "server", max_hops=1, max_hops_later=20) as few:
        there = ionpath(tmp_path, *words, "--url", few.url)
        refused = ionpath(tmp_path, *words[:-1], "21", "--url", few.url)
    here = ionpath(tmp_path, *words, max_hops=1, max_hops_later=20)
    for done in (here, there):
        assert done.returncode == 0, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        assert len(answer["hops"]) > 1
        assert not answer["truncated"]
    assert refused.returncode == 1
    assert "too-many-hops" in refused.stdout


def test_a_file_that_cannot_be_read_stops_no_other(tmp_path: Path, service: Service, examples: Path) -> None:
    files = [examples / "missing.cif", examples / "LiFePO4_band.json"]
    words: tuple[str | Path, ...] = ("predict", *files)
    words += ("--initial", examples / "gone.cif", "--final", examples / "LiFePO4_final.cif")
    done = ionpath(tmp_path, *words, "--url", service.url, "--json")
    assert done.returncode == 1
    missing, band, ends = (json.loads(line) for line in done.stdout.splitlines())
    assert "missing.cif cannot be read: No such file" in missing["problem"]["detail"]
    assert band["barrier_ev"] > 0
    assert "gone.cif cannot be read" in ends["problem"]["detail"]


def test_forty_crystals_are_all_predicted_here(tmp_path: Path, store: Path, examples: Path) -> None:
    """Nothing is refused for load, however little the service would let wait."""
    files = strained_crystals(examples, tmp_path / "crystals", 40)
    done = ionpath(tmp_path, "predict", *files, "--ion", "Li", "--json", model_store=store)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer.get("problem") for answer in answers] == [None] * 40, done.stderr
    assert done.returncode == 0
    assert [answer["file"] for answer in answers] == [file.name for file in files]
    assert len({answer["barrier_ev"] for answer in answers}) > 30


def test_a_service_s_rate_is_waited_for(tmp_path: Path, store: Path, examples: Path) -> None:
    files = strained_crystals(examples, tmp_path / "crystals", 6)
    (tmp_path / "server").mkdir()
    with running_service(tmp_path / "server", model_store=store, rate_per_minute=120, rate_burst=1) as slow:
        done = ionpath(tmp_path, "predict", *files, "--ion", "Li", "--csv", "--url", slow.url)
        metrics = slow.client.get("/metrics").text
    assert done.returncode == 0, done.stdout + done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(dict.fromkeys(row["file"] for row in rows)) == [file.name for file in files]
    assert not any(row["problem"] for row in rows)
    assert 'ionpath_errors_total{kind="rate-exceeded"}' in metrics


def test_each_result_is_printed_before_the_next_file_is_read(tmp_path: Path, store: Path, examples: Path) -> None:
    """The second file has no content yet when the first one's answer is there."""
    with predicting(tmp_path, store, examples / "LiCoO2.cif") as (process, pipe):
        assert json.loads(process.stdout.readline())["file"] == "LiCoO2.cif"  # type: ignore[union-attr] # is piped
        pipe.write_bytes((examples / "LiFePO4.cif").read_bytes())
        rest, err = process.communicate(timeout=120)
    assert [json.loads(line)["formula"] for line in rest.splitlines()] == ["Fe4 Li4 O16 P4"]
    assert process.returncode == 0, err


def test_an_interrupted_run_says_how_many_files_were_done(tmp_path: Path, store: Path, examples: Path) -> None:
    with predicting(tmp_path, store, examples / "LiCoO2.cif") as (process, pipe):
        process.stdout.readline()  # type: ignore[union-attr] # is piped
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to its worker processes as well
        pipe.write_bytes(b"")  # who waits for a file of a dead network drive waits as long
        rest, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "ionpath: Interrupted. 1 of 2 files were done."
    assert "Traceback" not in err
    assert rest == ""


def test_a_terminal_shows_the_progress_and_standard_output_has_the_answers_alone(
    tmp_path: Path, store: Path, examples: Path
) -> None:
    terminal, its_end = os.openpty()
    shown: list[bytes] = []
    with subprocess.Popen(
        [IONPATH, "predict", examples / "LiCoO2.cif", examples / "LiFePO4.cif", "--ion", "Li", "--json"],
        env=environment(tmp_path, model_store=store) | {"TERM": "xterm", "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=its_end,
        text=True,
    ) as process:
        os.close(its_end)
        reading = threading.Thread(target=read_terminal, args=(terminal, shown))  # one that nobody reads fills up
        reading.start()
        out, _ = process.communicate()
        reading.join()
    os.close(terminal)
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["LiCoO2.cif", "LiFePO4.cif"]
    assert b"0/2" in b"".join(shown)
    assert b"2/2" in b"".join(shown)


def read_terminal(terminal: int, shown: list[bytes]) -> None:
    """All that is written to it, until its other end is closed."""
    with suppress(OSError):  # how Linux says that it is
        while chunk := os.read(terminal, 4096):
            shown.append(chunk)


@contextmanager
def predicting(folder: Path, store: Path, file: Path) -> Generator[tuple[subprocess.Popen[str], Path], None, None]:
    """A run of a file and of a pipe, whose content is still to be written."""
    pipe = folder / "pipe.cif"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [IONPATH, "predict", file, pipe, "--ion", "Li", "--json"],
        env=environment(folder, model_store=store),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process, pipe
        finally:
            process.kill()


def test_a_service_that_is_gone_is_not_asked_for_ever(tmp_path: Path, store: Path, examples: Path) -> None:
    first_is_done = threading.Event()
    results: list[Result] = []

    class Seen:
        def finished(self, result: Result) -> None:
            results.append(result)
            service.stop()
            first_is_done.set()

        def progress(self, *, done: int, failed: int) -> None:
            pass

    def load(label: str) -> Source:
        if label != "0":
            assert first_is_done.wait(60)
        return Source(label=label, files={"structure": ("a.cif", content)}, ion="Li")

    content = (examples / "LiCoO2.cif").read_bytes()
    inputs = [Input(label=str(number), load=partial(load, str(number))) for number in range(20)]
    question = Question(model=None, threshold_ev=0.65)
    with running_service(tmp_path, model_store=store) as service, pytest.raises(StoppedError, match="did not answer"):
        asyncio.run(ask(Remote(service.url, None, gone_after_s=0.5), inputs, question, Seen()))
    assert [result.problem for result in results] == [None]


def strained_crystals(examples: Path, folder: Path, count: int) -> list[Path]:
    """LiCoO2 of so many lattices, so that no answer is another's."""
    folder.mkdir()
    text = (examples / "LiCoO2.cif").read_text()
    files = [folder / f"{number:02d}.cif" for number in range(count)]
    for number, file in enumerate(files):
        file.write_text(re.sub(r"(_cell_length_c +)14\.05360000", rf"\g<1>{14.0 + 0.01 * number:.8f}", text))
    return files


def test_predict_shows_a_table(tmp_path: Path, service: Service, examples: Path) -> None:
    done = ionpath(tmp_path, "predict", examples / "LiFePO4.cif", "--ion", "Li", "--url", service.url)
    assert done.returncode == 0
    for words in ("barrier eV", "LiFePO4.cif", "3.00", "connects through the crystal", "1d:"):
        assert words in done.stdout


def test_the_table_is_whole_in_a_narrow_terminal(tmp_path: Path, service: Service, examples: Path) -> None:
    words = ("predict", examples / "LiFePO4.cif", examples / "LiCoO2.cif", "--ion", "Li", "--url", service.url)
    narrow = subprocess.run(
        [IONPATH, *words],
        env=environment(tmp_path) | {"COLUMNS": "60"},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert "…" not in narrow.stdout
    assert "1: 0 to 2 [0 -1 0]" in narrow.stdout


@pytest.mark.parametrize("far", [False, True])
def test_predict_writes_bands_and_draws_barriers(
    tmp_path: Path, service: Service, examples: Path, *, far: bool
) -> None:
    words: tuple[str | Path, ...] = ("predict", examples / "LiCoO2.cif", examples / "LiFePO4_band.json", "--ion", "Li")
    words += ("--write-neb", tmp_path / "neb", "--plot", tmp_path / "hops.png", "--json")
    done = ionpath(tmp_path, *words, *(("--url", service.url) if far else ()))
    assert done.returncode == 0, done.stderr
    assert "Wrote" in done.stderr
    hops = json.loads(done.stdout.splitlines()[0])["hops"]
    predicted = [f"hop-{number:02d}" for number, hop in enumerate(hops, 1) if hop["barrier_ev"] is not None]
    crystal, band = tmp_path / "neb" / "LiCoO2", tmp_path / "neb" / "LiFePO4_band"
    assert sorted(path.name for path in crystal.iterdir()) == ["README.md", *predicted]
    for folder in (crystal / predicted[-1], band / "hop-01"):
        assert [path.name for path in sorted(folder.iterdir())] == ["00", "01", "02", "03", "04"]
        assert (folder / "04" / "POSCAR").read_text().splitlines()[7] == "Direct"
    assert (tmp_path / "hops.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_of_an_unknown_kind_is_refused(tmp_path: Path, service: Service, examples: Path) -> None:
    words = ("predict", examples / "LiFePO4_band.json", "--url", service.url, "--plot", tmp_path / "hops.docx")
    done = ionpath(tmp_path, *words)
    assert done.returncode == 2
    assert "docx" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Nothing to predict"),
        (("--initial", "{examples}/LiFePO4_initial.cif"), "--final"),
        (("{examples}/LiFePO4.cif", "--ion", "Li", "--url", "http://127.0.0.1:9"), "did not answer"),
        (("{examples}/LiFePO4.cif", "--ion", "Li", "--url", "http://127.0.0.1:99999999"), "no port 99999999"),
        (("{examples}/LiFePO4.cif", "--ion", "Li", "--url", "http://[::1"), "did not answer"),
        (("{examples}/[/b].cif",), "[/b].cif"),
        (("{examples}/missing.cif",), "missing.cif"),
        (("{examples}/LiFePO4.cif", "--mechanism", "teleport"), "teleport"),
    ],
)
def test_predict_says_what_is_wrong(tmp_path: Path, examples: Path, words: tuple[str, ...], message: str) -> None:
    done = ionpath(tmp_path, "predict", *(word.format(examples=examples) for word in words))
    assert done.returncode in {1, 2}
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_s_name_is_no_markup(tmp_path: Path, service: Service, examples: Path) -> None:
    name = "[bold][red].cif"  # a closing one needs a slash, which no name has
    (tmp_path / name).write_bytes((examples / "LiCoO2.cif").read_bytes())
    done = ionpath(tmp_path, "predict", tmp_path / name, "--ion", "Li", "--url", service.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(name) >= 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999999", "http://[::1", "http://127.0.0.1:9"])
def test_models_of_a_service_that_is_not_there_are_refused(tmp_path: Path, url: str) -> None:
    done = ionpath(tmp_path, "models", "--url", url)
    assert done.returncode == 2
    assert "did not answer" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("", 1.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0),
        ("nan", 1.0),
        ("-3", 0.0),
        ("1e9", 60),
    ],
)
def test_a_busy_service_is_asked_again_when_it_says(header: str, seconds: float) -> None:
    assert wait_s(header) == seconds


def test_a_damaged_checkpoint_is_reported(tmp_path: Path, repository: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(repository / "model_store", store)
    (weights,) = (store / "default").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    done = ionpath(tmp_path, "serve", "--port", "0", model_store=store)
    assert done.returncode == 2
    assert "default" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_address_that_is_taken_is_reported_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ionpath(tmp_path, "serve", "--port", str(port))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"port {port}" in line
    assert "IONPATH_PORT" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--json", "--csv"), "two forms"),
        (("--plot", "no-such-folder/x.png"), "there is no folder no-such-folder"),
        (("--url", "127.0.0.1:8000"), "such as http://127.0.0.1:8000"),
        (("--url", "nonsense"), "http:// or https://"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_predicted(
    tmp_path: Path, examples: Path, words: tuple[str, ...], message: str
) -> None:
    done = ionpath(tmp_path, "predict", examples / "LiFePO4_band.json", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert not done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_reported(tmp_path: Path) -> None:
    done = ionpath(tmp_path, "serve", "--port", "0", device="cuda")
    assert done.returncode == 2
    assert "IONPATH_DEVICE=cuda" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_models_are_listed_here_and_there(tmp_path: Path, service: Service) -> None:
    there = ionpath(tmp_path, "models", "--json", "--url", service.url)
    assert json.loads(there.stdout) == service.client.get("/models").json()
    here = ionpath(tmp_path, "models")
    assert "default (default)" in here.stdout
    assert json.loads(there.stdout)["models"][0]["digest"][:12] in here.stdout


def test_migrate_can_be_run_twice(tmp_path: Path) -> None:
    for _ in range(2):
        done = ionpath(tmp_path, "migrate")
        assert done.returncode == 0, done.stderr
        assert "up to date" in done.stdout
    assert (tmp_path / "log.sqlite3").exists()


def test_a_new_key_is_shown_once_and_its_hash_alone_is_written(tmp_path: Path) -> None:
    done = ionpath(tmp_path, "keys", "new", "alice")
    key = next(word for word in done.stderr.split() if len(word) > 40)
    assert done.stdout.startswith("alice:")
    assert key not in done.stdout
    assert ionpath(tmp_path, "keys", "new", "not a name").returncode == 2
