"""What is set and has no effect is reported, and nothing else is."""

import re
from pathlib import Path

import pytest

from app.settings import GONE_SETTINGS, OTHER_VARIABLES, REPOSITORY, Settings, ignored_settings

SETTINGS = {f"IONPATH_{name.upper()}" for name in Settings.model_fields}
NAME = re.compile(r"\bIONPATH_[A-Z0-9_]*[A-Z0-9]\b")


def test_settings_and_other_programs_variables_are_not_reported(tmp_path: Path) -> None:
    ours = SETTINGS | OTHER_VARIABLES | {"IONPATH_TEST_MODEL_STORE", "ionpath_port"}
    others = {"PATH", "HOME", "IONPATHS", "MY_IONPATH_PORT"}
    assert ignored_settings(dict.fromkeys(ours | others, "1"), folder=tmp_path) == []


@pytest.mark.parametrize(
    "path",
    [
        path
        for pattern in (
            "Dockerfile",
            "Makefile",
            ".env.example",
            "*.yml",
            ".ci/run",
            "deploy/**/*.*",
            "tests/*.py",
            "tests/browser/*.py",
        )
        for path in sorted(REPOSITORY.glob(pattern))
    ],
    ids=lambda path: str(path.relative_to(REPOSITORY)),
)
def test_names_in_the_repository_raise_no_false_alarm(path: Path, tmp_path: Path) -> None:
    named = set(NAME.findall(path.read_text("utf-8"))) - {"IONPATH_NAME"}
    assert ignored_settings(dict.fromkeys(named - GONE_SETTINGS.keys(), "1"), folder=tmp_path) == []


def test_what_kubernetes_sets_for_a_service_of_our_name_is_not_reported(tmp_path: Path) -> None:
    of_kubernetes = {
        "IONPATH_API_SERVICE_HOST": "10.0.0.1",
        "IONPATH_API_SERVICE_PORT": "8000",
        "IONPATH_API_SERVICE_PORT_HTTP": "8000",
        "IONPATH_API_PORT": "tcp://10.0.0.1:8000",
        "IONPATH_API_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "IONPATH_API_PORT_8000_TCP_ADDR": "10.0.0.1",
        "IONPATH_SERVICE_HOST": "10.0.0.1",
    }
    assert ignored_settings(of_kubernetes, folder=tmp_path) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("IONPATH_PROT", "IONPATH_PORT"),
        ("ionpath_redis_uri", "IONPATH_REDIS_URL"),
        ("IONPATH_RATE_PER_MIN", "IONPATH_RATE_PER_MINUTE"),
        ("IONPATH_APIKEYS_FILE", "IONPATH_API_KEYS_FILE"),
        ("IONPATH_DATABASE", "IONPATH_DATABASE_URL"),
    ],
)
def test_a_misspelt_setting_is_reported_with_the_most_similar_one(name: str, meant: str, tmp_path: Path) -> None:
    (problem,) = ignored_settings({name: "hidden", "IONPATH_HOST": "127.0.0.1"}, folder=tmp_path)
    assert problem == f"{name.upper()} is not a setting and has no effect. Did you mean {meant}?"


def test_a_name_like_no_other_is_reported_with_where_all_are_listed(tmp_path: Path) -> None:
    (problem,) = ignored_settings({"IONPATH_XYZZY": "hidden"}, folder=tmp_path)
    assert problem == "IONPATH_XYZZY is not a setting and has no effect. docs/configuration.md lists all settings."


@pytest.mark.parametrize("name", sorted(GONE_SETTINGS.keys() - SETTINGS) or ["IONPATH_GONE"])
def test_a_setting_that_is_gone_is_reported_with_what_to_use_instead(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.settings.GONE_SETTINGS", {"IONPATH_GONE": "IONPATH_PORT: the port", **GONE_SETTINGS})
    (problem,) = ignored_settings({name: "hidden"}, folder=tmp_path)
    assert problem.startswith(f"{name} is no longer a setting and has no effect. Use IONPATH_")
    successors = set(NAME.findall(problem)) - {name}
    assert successors
    assert successors <= SETTINGS, "what to use instead is a setting"


def test_a_dotenv_file_is_looked_through_and_its_values_are_not_repeated(tmp_path: Path) -> None:
    lines = ["POSTGRES_PASSWORD=hidden", "IONPATH_PROT=hidden", "export IONPATH_HOST=hidden", "IONPATH_PORT='hidden'"]
    (tmp_path / ".env").write_text("# of docker compose\n" + "\n".join(lines))
    problems = ignored_settings({"IONPATH_PORT": "8000"}, folder=tmp_path)
    assert problems == [
        "IONPATH_HOST in .env is not read. Set it in the environment, or in ionpath.env for docker compose.",
        "IONPATH_PROT in .env is not a setting and has no effect. Did you mean IONPATH_PORT?",
    ]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00IONPATH_PROT=1", b"IONPATH_PROT", b"'", b"=\n=\n\x00"])
def test_a_dotenv_file_that_cannot_be_read_stops_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(content)
    assert len(ignored_settings({}, folder=tmp_path)) <= 1


def test_a_folder_named_dotenv_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert ignored_settings({}, folder=tmp_path) == []
