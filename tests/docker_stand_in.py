"""Does with processes what deploy/'s scripts ask of `docker`, where there is no Docker engine.

An image is a folder with the package's code, a container a process on a loopback address of its own, with the
environment that docker-compose.yml gives it; `exec` in PostgreSQL's container runs the same program of a PostgreSQL
here. It knows what the scripts say and nothing else: anything else is an error.

Its folder (STAND_IN) has engine.json (see topology.py), `context` (the folder that is built next), images/NAME and
containers/ID.json.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

import yaml

FOLDER = Path(os.environ["STAND_IN"])
ENGINE: dict[str, Any] = json.loads((FOLDER / "engine.json").read_text())
IONPATH = str(Path(sys.executable).parent / "ionpath")  # of the code that PYTHONPATH names
STOP_TIMEOUT_S = 75.0


def fail(message: str) -> NoReturn:
    sys.stderr.write(f"docker (stand-in): {message}\n")
    raise SystemExit(1)


# Images


def image(name: str) -> Path:
    """A name's file; what it holds is the image's id, which is the folder of its code."""
    return FOLDER / "images" / name


def tag(what: str, name: str) -> None:
    known = what if what.startswith("/") else image(what).read_text() if image(what).is_file() else None
    if known is None:
        fail(f"no such image: {what}")
    image(name).write_text(known)


# Containers


def containers() -> dict[str, dict[str, Any]]:
    """All that run, oldest first."""
    files = sorted((FOLDER / "containers").glob("*.json"))
    found = {path.stem: json.loads(path.read_text()) for path in files}
    return {name: container for name, container in found.items() if has_not_ended(container["pid"])}


def has_not_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}  # nobody waits for it here


def environment(code: str) -> dict[str, str]:
    """As in the compose file, but for what is elsewhere here."""
    compose = yaml.safe_load(Path(ENGINE["compose"]).read_text())
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IONPATH_")}
    given = {**compose["services"]["api"]["environment"], **ENGINE["environment"]}
    return {**kept, **{name: value for name, value in given.items() if value}, "PYTHONPATH": code}


def start() -> None:
    (FOLDER / "containers").mkdir(exist_ok=True)
    number = len(list((FOLDER / "containers").glob("*.json"))) + 1
    code, address = image("ionpath:cpu").read_text(), f"127.0.1.{number}"
    command = [IONPATH, "serve", "--host", address, "--port", str(ENGINE["port"])]
    name = f"replica-{number:03}"
    with (FOLDER / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment(code) | {"IONPATH_METRICS_HOST": address},
            stdout=log,
            stderr=log,
            cwd=FOLDER,
            start_new_session=True,
        )
    container = {"pid": process.pid, "image": code, "address": address}
    (FOLDER / "containers" / f"{name}.json").write_text(json.dumps(container))


def inspect(form: str, name: str) -> str:
    container = json.loads((FOLDER / "containers" / f"{name}.json").read_text())
    if form == "{{.Image}}":
        return str(container["image"])
    if form != "{{.State.Status}} {{.RestartCount}} {{.State.Health.Status}}":
        fail(f"inspect {form}")
    if not has_not_ended(container["pid"]):
        return "exited 0 unhealthy"
    try:
        with urllib.request.urlopen(f"http://{container['address']}:{ENGINE['port']}/health/live", timeout=4):
            return "running 0 healthy"
    except OSError:
        return "running 0 starting"


def in_replica(name: str, program: str) -> int:
    """Run Python in it; what it calls its own address is the one that it has here."""
    container = json.loads((FOLDER / "containers" / f"{name}.json").read_text())
    program = program.replace(
        "127.0.0.1:9100", f"{container['address']}:{ENGINE['environment']['IONPATH_METRICS_PORT']}"
    )
    return subprocess.run([sys.executable, "-c", program], check=False).returncode


def stop(name: str) -> None:
    pid = json.loads((FOLDER / "containers" / f"{name}.json").read_text())["pid"]
    if has_not_ended(pid):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while has_not_ended(pid):
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.05)


# The commands of the scripts


def in_postgres(program: str, *arguments: str) -> int:
    command = [str(Path(ENGINE["postgres_programs"]) / program), *arguments]
    return subprocess.run(command, env=os.environ | ENGINE["postgres_variables"], check=False).returncode


def compose(*words: str) -> int:
    match words:
        case ("build", "api"):
            image("ionpath:cpu").write_text((FOLDER / "context").read_text())
        case ("ps", "--quiet", "api"):
            sys.stdout.write("".join(f"{name}\n" for name in containers()))
        case ("up", "--detach", "--no-deps", "--no-build", "--no-recreate", "--scale", scale, "api"):
            for _ in range(int(scale.removeprefix("api=")) - len(containers())):
                start()
        case ("run", "--rm", "-T", "--no-deps", "migrate"):
            code = image("ionpath:cpu").read_text()
            return subprocess.run([IONPATH, "migrate"], env=environment(code), cwd=FOLDER, check=False).returncode
        case ("exec", "-T", "proxy", "wget", "-q", "-O", "-", "http://127.0.0.1:8404/"):
            with urllib.request.urlopen(f"http://127.0.0.1:{ENGINE['count_port']}/") as reply:
                sys.stdout.write(reply.read().decode())
        case ("exec", "-T", "postgres", program, *arguments):
            return in_postgres(program, *arguments)
        case _:
            fail(f"compose {' '.join(words)}")
    return 0


def main(*words: str) -> int:
    match words:
        case ("compose", *rest):
            return compose(*rest)
        case ("tag", what, name):
            tag(what, name)
        case ("inspect", "--format", form, name):
            sys.stdout.write(f"{inspect(form, name)}\n")
        case ("logs", "--tail", number, name):
            lines = (FOLDER / f"{name}.log").read_text().splitlines()
            sys.stdout.write("".join(f"{line}\n" for line in lines[-int(number) :]))
        case ("exec", name, "python", "-c", program):
            return in_replica(name, program)
        case ("stop", name):
            stop(name)
        case ("rm", name) | ("rm", "--force", name):
            stop(name)
        case _:
            fail(" ".join(words))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
