"""python -m loadtests.bench.profile [--work write] [--clients 128] [--seconds 12]

Where the CPU of a request goes: what each process of a running stack used, from the kernel,
divided among the packages in which `py-spy` found it. Code in C counts for the Python line that
called it. Prints a table in µs a request, and writes it into `loadtests/results/`.

One stack, one load: the sum is as good as the moment's machine, the shares are what to read.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from loadtests.bench.contenders import serving
from loadtests.bench.report import RESULTS, circumstances
from loadtests.bench.scenarios import LINES, ORDERS, ask_client
from loadtests.bench.usage import cpu_seconds, processes

RATE = 200
"""Samples a second. More would disturb what is measured."""

PROCESSES = {
    "deploy.cli": "gateway",
    "HostActor": "host",
    "eventstore.embedded": "store",
    "ReplicaActor": "replica",
    "ProjectorActor": "projector",
}
"""By what a command line contains; one of each, as `rayfold up` starts them. What else there is
has no Python of ours."""

LOOP = "event loop, system calls"
PACKAGES = {
    "uvloop": LOOP, "asyncio": LOOP, "threading": LOOP, "selectors": LOOP,
    "uvicorn": "uvicorn", "litestar": "litestar", "ray": "ray", "grpc": "grpc",
    "google": "grpc", "kurrentdbclient": "grpc", "asyncpg": "asyncpg", "pydantic": "pydantic",
    "api": "api/", "actors": "actors/", "projections": "projections/", "eventstore": "eventstore/",
    "rayfold": "rayfold/", "domain": "domain/",
}  # fmt: skip

ASLEEP = "Worker.main_loop"
"""Ray's main thread waits there, in C++: `py-spy` takes it for work, the kernel does not."""

_FRAME = re.compile(r"\(([\w.]+)(/|:|\))")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", default="write", choices=["write", "hot", "stored", "read"])
    parser.add_argument("--clients", type=int, default=128)
    parser.add_argument("--seconds", type=int, default=12)
    options = parser.parse_args()
    with serving("rayfold") as server, tempfile.TemporaryDirectory() as folder:
        seed = {"port": server.port, "work": "seed", "lines": LINES}
        if options.work == "stored":
            orders = ask_client(port=server.port, work="seed customers", customers=ORDERS)
        else:
            orders = ask_client(**seed, orders=1 if options.work == "hot" else ORDERS)
        task = {"port": server.port, "work": options.work, "orders": orders}
        task["clients"] = options.clients
        ask_client(**task, seconds=2.0)
        ours = {role: pid for pid, role in _roles(server.pid, server.folder)}
        paths = {role: Path(folder) / role for role in ours}
        spies = [_spy(pid, options.seconds, paths[role]) for role, pid in ours.items()]
        before = _cpu(server.pid, server.folder)
        done = ask_client(**task, seconds=float(options.seconds))
        after = _cpu(server.pid, server.folder)
        if any(spy.wait(60) for spy in spies):
            raise SystemExit("py-spy could not watch every process: it needs the right to trace")
        shares = {role: shares_of(path.read_text()) for role, path in paths.items()}
    used = {pid: (after[pid] - before.get(pid, 0.0)) / done["count"] * 1e6 for pid in after}
    named = {role: used.pop(pid) for role, pid in ours.items()}
    text = table(options, done, named, sum(used.values()), shares)
    (RESULTS / f"profile-{options.work}.md").write_text(text)
    sys.stdout.write(text)


def shares_of(samples: str) -> dict[str, float]:
    """Return the share of each package in `py-spy`'s raw lines (`frame;frame;… count`)."""
    counts: Counter[str] = Counter()
    for line in samples.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if frames[-1].startswith(ASLEEP):
            continue
        found = [_FRAME.search(frame) for frame in reversed(frames)]
        names = [match[1].removesuffix(".py") for match in found if match]
        counts[next((PACKAGES[name] for name in names if name in PACKAGES), "other")] += int(count)
    total = sum(counts.values()) or 1
    return {package: count / total for package, count in counts.items()}


def table(
    options: Any,
    done: dict[str, Any],
    used: dict[str, float],
    rest: float,
    shares: dict[str, dict[str, float]],
) -> str:
    """Return Markdown: a row for each package, a column for each process, µs a request."""
    where = circumstances()
    roles = sorted(used, key=lambda role: -used[role])
    packages = {package for share in shares.values() for package in share}
    rows = {
        package: [used[role] * shares[role].get(package, 0.0) for role in roles]
        for package in packages
    }
    lines = [
        f"`python -m loadtests.bench.profile`: {options.work}, {options.clients} clients,"
        f" {done['per_second']:,.0f}/s, p50 {done['p50_ms']:.1f} ms. {where['cores']} cores,"
        f" Python {where['python']}, commit {where['commit'][:12]}, {where['at']}.",
        "",
        "µs of CPU a request, `py-spy` watching. Postgres, Ray's own processes and all else:"
        f" {rest:,.0f}; everything: {sum(used.values()) + rest:,.0f}.",
        "",
        f"| | {' | '.join(roles)} | sum |",
        f"|---|{'--:|' * (len(roles) + 1)}",
    ]
    for package, values in sorted(rows.items(), key=lambda row: -sum(row[1])):
        cells = [f"{value:,.0f}" if value >= 0.5 else "" for value in values]
        lines.append(f"| {package} | {' | '.join(cells)} | {sum(values):,.0f} |")
    sums = [f"{used[role]:,.0f}" for role in roles]
    lines.append(f"| **sum** | {' | '.join(sums)} | {sum(used.values()):,.0f} |")
    return "\n".join(lines) + "\n"


def _roles(pid: int, folder: Path) -> list[tuple[int, str]]:
    found = []
    for process in processes(pid, folder):
        with suppress(psutil.Error):
            command = " ".join(process.cmdline())
            found += [(process.pid, role) for text, role in PROCESSES.items() if text in command]
    return found


def _cpu(pid: int, folder: Path) -> dict[int, float]:
    return {process.pid: cpu_seconds([process]) for process in processes(pid, folder)}


def _spy(pid: int, seconds: int, path: Path) -> subprocess.Popen[bytes]:
    spy = str(Path(sys.executable).with_name("py-spy"))
    command = [spy, "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(RATE)]
    command += ["--format", "raw", "--nonblocking", "--output", str(path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
