"""Settings, read once from IONPATH_* variables and secret files; the unit is in the name."""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

REPOSITORY = Path(__file__).resolve().parent.parent

#: Settings that were removed or renamed, and what to use now; docs/configuration.md has the same table.
GONE_SETTINGS: Final[Mapping[str, str]] = {
    "IONPATH_QUEUE_COST": "IONPATH_QUEUE_MAX_WAIT_S and IONPATH_QUEUE_MAX_MIB: waiting work is bounded in seconds and "
    "in memory, no longer by its cost",
    "IONPATH_QUEUE_WAIT_S": "IONPATH_QUEUE_MAX_WAIT_S: seconds of waiting work, of reading, preparing and the model "
    "together; 30 unless set",
    "IONPATH_READING_MIB": "IONPATH_QUEUE_MAX_MIB: memory of all waiting work, uploads that wait to be read included",
}
#: Read by the command line, the training and the tests, or before the settings.
OTHER_VARIABLES: Final = frozenset({"IONPATH_API_KEY", "IONPATH_DATA_DIR", "IONPATH_DATA_URL", "IONPATH_SECRETS_DIR"})


class Settings(BaseSettings):
    """Everything that can be set; the defaults run on a laptop with no other server."""

    model_config = SettingsConfigDict(env_prefix="IONPATH_", frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="address to bind; anything but loopback needs keys or allow_anonymous")
    port: int = Field(8000, ge=0, le=65535, description="port to bind; 0 takes a free one")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_format: Literal["json", "text"] = Field("json", description="structured JSON lines, or text for a terminal")

    model_store: Path = Field(REPOSITORY / "model_store", description="folder with one folder a checkpoint")
    default_model: str = Field("default", description="the checkpoint that answers without ?model=")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the networks run")
    model_process: bool = Field(default=True, description="run the model in a process of its own, on a CPU")
    prepare_processes: int = Field(
        0,
        ge=0,
        le=64,
        description="processes that prepare bands; 0: one for two cores and one more, at most 4; beside a GPU one for "
        "two cores, at most 12",
    )
    torch_threads: int = Field(0, ge=0, description="cores of one forward pass on a CPU; 0 takes all")

    database_url: SecretStr = Field(
        SecretStr("sqlite+aiosqlite:///ionpath.sqlite3"),
        description="the prediction log: sqlite+aiosqlite:///FILE or postgresql+psycopg://user:password@host/name",
    )
    migrate_on_start: bool = Field(default=True, description="bring the log's schema up to date before serving")
    store_inputs: bool = Field(default=True, description="keep the canonical input with each prediction, compressed")
    retention_days: int = Field(0, ge=0, description="delete predictions older than this; 0 keeps them")
    log_batch_rows: int = Field(256, ge=1, description="most rows written to the log at once")
    log_batch_wait_ms: float = Field(50.0, ge=0, description="how long a row waits for others before it is written")
    log_queue_rows: int = Field(100_000, ge=1, description="rows held in memory while the log cannot be written")
    log_queue_mib: int = Field(256, ge=1, description="memory of the rows held while the log cannot be written")
    spool_dir: Path | None = Field(
        Path("ionpath-spool"), description="folder that keeps rows until the log has them; empty keeps none on disk"
    )
    spool_mib: int = Field(1024, ge=1, description="most disk that a process's spool takes")
    spool_sync_ms: float = Field(1000.0, ge=10, description="how much of the spool a power cut may take, at most")

    cache: Literal["on", "off"] = Field("on", description="off computes every answer again")
    redis_url: SecretStr | None = Field(
        None, description="redis://[:password@]host:port/n; none caches, and counts rates, in this process"
    )
    cache_ttl_s: int = Field(7 * 24 * 3600, ge=1, description="how long an answer is kept")
    cache_entries: int = Field(20_000, ge=1, description="most answers kept by the in-process cache")
    cache_mib: int = Field(128, ge=1, description="memory of the answers kept by the in-process cache")
    redis_timeout_ms: float = Field(100.0, gt=0, description="a slower Redis is skipped")

    queue_max_wait_s: float = Field(
        30.0,
        gt=0,
        description="longest estimated wait of a request, reading and model together; past it 429, unless "
        "few wait (the next one)",
    )
    queue_min_requests: int = Field(
        32,
        ge=0,
        description="as many bands and as many crystals, of all callers together, are taken however long they wait",
    )
    queue_max_mib: int = Field(
        256, ge=1, description="bytes of the requests that wait, and as many of bodies that are arriving; past it 429"
    )
    batch_cost: int = Field(1_000_000, ge=1, description="most cost in one forward pass; a larger item goes alone")
    batch_wait_ms: float | None = Field(
        None, ge=0, description="how long a batch waits for more, only under load; unset: 50 on a CPU, 2 on a GPU"
    )

    jobs_mib: int = Field(256, ge=1, description="memory of the inputs of jobs that are not finished; past it 429")

    parse_workers: int = Field(0, ge=0, le=64, description="processes that read crystals; 0: as many as cores")
    parse_timeout_s: float = Field(
        20.0,
        gt=0,
        description="a file that takes more processor time to read is refused, and one that takes three times as much "
        "in all",
    )
    parse_memory_mib: int = Field(4096, ge=512, description="memory of one reading process")
    kept_readings_mib: int = Field(64, ge=1, description="memory of the files read last, kept for being sent again")
    max_body_bytes: int = Field(20_000_000, ge=1, description="largest request body")
    body_timeout_s: float = Field(60.0, gt=0, description="a request body that takes longer to arrive is refused")
    max_atoms: int = Field(2_000, ge=1, description="most atoms of one image, or of an uploaded crystal")
    max_images: int = Field(99, ge=2, description="most images of a band")
    max_files: int = Field(400, ge=1, description="most files in a zip or tar")
    max_unpacked_bytes: int = Field(
        100_000_000, ge=1, description="largest content of an archive or packed file once unpacked"
    )
    max_hops: int = Field(60, ge=1, description="most hops of a crystal that ?max_hops= may ask for at once")
    max_hops_later: int = Field(2_000, ge=1, description="the same with Prefer: respond-async")
    max_orderings: int = Field(3, ge=1, le=20, description="most orderings of a disordered crystal, each predicted")
    second_opinion_timeout_s: float = Field(
        30.0,
        gt=0,
        description="a second opinion that takes more processor time is given up, and one that takes three times as "
        "much in all",
    )
    request_timeout_s: float = Field(
        120.0, gt=0, description="a request is given up where nothing of it gets done for so long"
    )

    api_keys_file: Path | None = Field(None, description="hashes of the keys that may call; none needs no key")
    allow_anonymous: bool = Field(default=False, description="bind beyond loopback without keys; turns listing off")
    rate_per_minute: int = Field(0, ge=0, description="predictions a minute of one key; past it 429; 0 sets no rate")
    rate_burst: int = Field(60, ge=1, description="predictions that a key may ask for at once before its rate counts")
    metrics_host: str = Field("127.0.0.1", description="address of the metrics port")
    metrics_port: int | None = Field(None, description="serve /metrics without a key on a port of its own")
    drain_notice_s: float = Field(
        0.0, ge=0, description="how long it answers on after SIGTERM while it says that it is not ready any more"
    )
    drain_timeout_s: float = Field(30.0, ge=0, description="how long accepted work may take after SIGTERM")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read what no variable sets from files of the same names, in small letters, in IONPATH_SECRETS_DIR.

        Raises:
            ValueError: that folder is not there.
        """
        folder = os.environ.get("IONPATH_SECRETS_DIR")
        if folder and not Path(folder).is_dir():
            raise ValueError(f"{folder} (IONPATH_SECRETS_DIR) is not a folder")
        secrets = SecretsSettingsSource(settings_cls, secrets_dir=folder) if folder else file_secret_settings
        return init_settings, env_settings, dotenv_settings, secrets

    @field_validator("spool_dir", mode="before")
    @classmethod
    def _no_folder(cls, value: object) -> object:
        return value or None

    @field_validator("cache", mode="before")
    @classmethod
    def _cache_words(cls, value: object) -> object:
        return {"0": "off", "false": "off", "1": "on", "true": "on"}.get(str(value).lower(), str(value).lower())


def ignored_settings(environment: Mapping[str, str] = os.environ, *, folder: Path | None = None) -> list[str]:
    """What is set and has no effect, a sentence or two each: settings that are gone, misspelt or in the wrong place.

    Args:
        environment: the variables that are set.
        folder: where a `.env` file may lie, which docker compose reads and ionpath does not; the working directory
            where left out.
    """
    set_here = {name.upper(): value for name, value in environment.items()}
    in_file = _variables_of((folder or Path.cwd()) / ".env")
    found = [
        _ignored(name, where)
        for variables, where in ((set_here, ""), (in_file, " in .env"))
        for name, value in sorted(variables.items())
        if _is_ours(name, value) and (not where or name not in set_here)
    ]
    return [problem for problem in found if problem]


def _ignored(name: str, where: str) -> str | None:
    if name.removeprefix("IONPATH_").lower() in Settings.model_fields:
        return where and f"{name}{where} is not read. Set it in the environment, or in ionpath.env for docker compose."
    if name in OTHER_VARIABLES:
        return None
    if name in GONE_SETTINGS:
        return f"{name}{where} is no longer a setting and has no effect. Use {GONE_SETTINGS[name]}."
    close = get_close_matches(name.removeprefix("IONPATH_").lower(), Settings.model_fields, n=1)
    advice = f"Did you mean IONPATH_{close[0].upper()}?" if close else "docs/configuration.md lists all settings."
    return f"{name}{where} is not a setting and has no effect. {advice}"


def _is_ours(name: str, value: str | None) -> bool:
    """Whether a variable looks like one of ours, and not like what Kubernetes sets for a service named ionpath-*."""
    of_kubernetes = re.search(r"_SERVICE_(?:HOST|PORT)|_PORT_\d+_(?:TCP|UDP|SCTP)", name)
    address = re.match(r"(?:tcp|udp|sctp)://", value or "")
    return name.startswith("IONPATH_") and not (name.startswith("IONPATH_TEST_") or of_kubernetes or address)


def _variables_of(file: Path) -> dict[str, str | None]:
    try:
        source = DotEnvSettingsSource(Settings, env_file=file)
    except (OSError, UnicodeDecodeError):  # a file of somebody else's, of which nothing is read in any case
        return {}
    return {name.upper(): value for name, value in source.env_vars.items()}
