"""Settings in files: those that hold passwords."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.settings import Settings

URL = "postgresql+psycopg://ionpath:secret@postgres:5432/ionpath"


def test_secrets_are_read_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ionpath_database_url").write_text(f"{URL}\n")
    (tmp_path / "postgres_password").write_text("secret\n")  # a file for others is left alone
    monkeypatch.setenv("IONPATH_SECRETS_DIR", str(tmp_path))
    settings = Settings()
    assert settings.database_url.get_secret_value() == URL
    assert settings.redis_url is None
    assert "secret" not in repr(settings)


def test_a_variable_comes_before_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ionpath_port").write_text("1234")
    monkeypatch.setenv("IONPATH_SECRETS_DIR", str(tmp_path))
    assert Settings().port == 1234
    monkeypatch.setenv("IONPATH_PORT", "4321")
    assert Settings().port == 4321


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["serve"], env={"IONPATH_SECRETS_DIR": str(tmp_path / "nowhere")})
    assert done.exit_code == 2
    assert "(IONPATH_SECRETS_DIR) is not a folder" in done.stderr
