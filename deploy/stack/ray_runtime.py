"""Ray: a local one, or a cluster that is given."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from deploy.errors import StartError
from deploy.raylet import agent_when_asked, no_agent
from deploy.raylet.command import Change, changed
from deploy.raylet.fork_server import ForkServer
from deploy.raylet.joined import JoinedRaylet
from deploy.raylet.wait import PAUSE, TIMEOUTS, raylet_within
from deploy.stack import ray_folder
from deploy.stack.whole_file import once_written
from rayfold.runtime.part_process import environment

log = logging.getLogger(__name__)

OBJECT_STORE = 512 * 1024 * 1024
"""Bytes of the object store, for copies between replicas; commands and answers are sent inline."""

LOG_BYTES = 16 * 1024 * 1024
"""The size limit of a Ray log file; one older file is kept."""

MAY_HANG = 8
"""Actor processes that may hang at their start without delaying others: a raylet starts no more at
a time than there are cores, and waits a minute for each to register.
"""

TOKEN_FILE = "ray.token"

_RAYLET_PID = "RAY_RAYLET_PID"
"""Ray silently ends a driver whose raylet has died if the driver's parent is init: it takes such
processes for orphaned workers, but services and containers' processes are such too. If this
variable is set when Ray is imported, Ray checks that process instead; we give our own.
"""

_joined: JoinedRaylet | None = None
"""The raylet through which this process has joined a cluster; None otherwise."""

_forks: ForkServer | None = None
"""The fork server of a local Ray; None otherwise."""


def start(
    address: str | None,
    namespace: str,
    wanted: Callable[[], bool] = lambda: True,
    data: Path | None = None,
    *,
    domain: str = "",
    runtime_env: dict[str, Any] | None = None,
) -> None:
    """Start Ray on this machine, or join the cluster at `address`. Blocks.

    A local Ray is private to this machine and its owner: it listens on loopback, requires the token
    that is kept in `data`, if that is given, and has its sockets and logs there. A cluster gets the
    token in `RAY_AUTH_TOKEN` or `RAY_AUTH_TOKEN_PATH`. Ray reads its environment when it is
    imported: it must not have been imported before, or it would not know the token. Actors of a
    local Ray share the imports of the package `domain`, if that is given.

    Raises:
        StartError: it does not start.
    """
    _set_environment()
    if address or data is None:
        # Set explicitly, as a local start turns token authentication on and joining does not.
        token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
        os.environ.setdefault("RAY_AUTH_MODE", "token" if address and token else "disabled")
    options = {
        "namespace": namespace,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        **({"runtime_env": told} if (told := _runtime_env(address, runtime_env or {})) else {}),
        **({"address": address} if address else _of_our_own(data)),
    }
    import ray

    os.environ.pop(_RAYLET_PID)  # which a local raylet would pass on to its workers
    global _joined, _forks
    if not address and _forks is None:
        _forks = _fork_server(domain)
    for attempt, timeout in enumerate(TIMEOUTS, start=1):
        try:
            with ExitStack() as conditions:
                if not address:
                    conditions.enter_context(_deaf_to_the_terminal())
                    conditions.enter_context(raylet_within(timeout))
                    conditions.enter_context(changed(_changes()))
                ray.init(**options)
            if address:
                _joined = JoinedRaylet(_raylet_socket())
        except (Exception, SystemExit) as error:  # Ray may raise anything here
            ray.shutdown()
            if attempt == len(TIMEOUTS) or not wanted():
                where = f"at {address}" if address else "on this machine"
                raise StartError(f"Ray did not start {where}: {error}") from error
            log.warning("Ray did not start and is tried again", extra={"error": error})
            time.sleep(PAUSE)
            if not wanted():
                raise StartError("told to stop while Ray started") from error
        else:
            return


def _set_environment() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
    # Without a running Ray, a call must fail, not start another one.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    os.environ[_RAYLET_PID] = str(os.getpid())
    # Their last report would delay leaving a Ray whose GCS has died by five seconds.
    os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
    os.environ["PYTHONPATH"] = os.pathsep.join(_import_path())


def _of_our_own(data: Path | None) -> dict[str, Any]:
    """Return the options of a local Ray; everything else is set."""
    if data is not None:
        _ask_for_token(data)
    # Where a cluster's head keeps its state: a local Ray would read and write it there, and if the
    # server does not answer, Ray aborts this process.
    for name in ("RAY_REDIS_ADDRESS", "RAY_gcs_storage"):
        os.environ.pop(name, None)
    _stay_on_loopback()
    _log_little()
    return {
        "address": "local",
        **({} if data is None else {"_temp_dir": str(ray_folder.prepared(data))}),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
        "_system_config": {
            "enable_metrics_collection": False,
            # Writers have the gateway's priority; readers lower their own.
            "worker_niceness": 0,
            # Otherwise the raylet would answer only once as many workers as there are cores have
            # started, and never if one of them dies first, while it holds the GIL.
            "prestart_worker_first_driver": False,
            "worker_maximum_startup_concurrency": (os.cpu_count() or 1) + MAY_HANG,
        },
    }


def _runtime_env(address: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return the actors' runtime environment; on a cluster, with settings of logs and traces.

    Actors of a local Ray inherit these from us.
    """
    ours = environment(os.environ) if address else {}
    if not ours:
        return given
    return {**given, "env_vars": {**ours, **given.get("env_vars", {})}}


def stop() -> None:
    """Leave Ray; stop it if we started it. Blocks."""
    import ray

    global _joined, _forks
    if _joined is not None:
        _joined.close()
        _joined = None
    ray.shutdown()
    if _forks is not None:
        _forks.stop()
        _forks = None


def drop_ended_fork_server() -> None:
    """Stop using the fork server if it has ended: actors then start as usual."""
    global _forks
    if _forks is not None and _forks.ended:
        log.error("the fork server ended; actors take longer to start until Ray is started again")
        _forks.stop()
        _forks = None


def ended() -> str | None:
    """Return which process of Ray on this machine has ended, if one has.

    For a joined cluster, that is the raylet. For a local Ray, it is any process except agents and
    actors: these are children of the raylet, which ends with an agent and restarts an actor.
    Without the GCS, actors go on for a minute; then they and their drivers end.
    """
    from ray._private import worker

    node = worker._global_node
    if node is None:
        return "all"
    if _joined is not None and not _joined.runs:
        return "raylet"
    for kind, processes in node.all_processes.items():
        if any(each.process.poll() is not None for each in processes):
            return str(kind)
    return None


def is_ours() -> bool:
    """Return whether Ray on this machine is local, not a cluster's."""
    return _joined is None


def addresses() -> dict[str, str]:
    """Return the addresses of the GCS and of this machine's raylet: `HOST:PORT` by name."""
    from ray._private import worker

    node = worker._global_node
    if node is None:
        return {}
    found = {"gcs_server": str(node.gcs_address)}
    if node.node_manager_port:  # we have started it
        found["raylet"] = f"{node.node_ip_address}:{node.node_manager_port}"
    return found


def session_folder() -> Path | None:
    """Return the folder of Ray on this machine, with its logs and sockets."""
    from ray._private import worker

    node = worker._global_node
    return None if node is None else Path(node.get_session_dir_path())


def _fork_server(domain: str) -> ForkServer | None:
    if sys.platform != "linux":
        return None
    try:
        return ForkServer(domain=domain)
    except OSError as error:
        log.warning("actors start without a fork server", extra={"error": error})
        return None


def _changes() -> list[Change]:
    """Return the changes to the commands of a local raylet."""
    import ray

    folder = Path(ray.__file__).parent
    agent = str(folder / "dashboard/agent.py")
    environments = str(folder / "_private/runtime_env/agent/main.py")
    as_ray_starts_it = (sys.executable, "-u")
    as_we_do = (sys.executable, "-I", "-S")
    changes = [
        Change(
            "dashboard_agent_command",
            (*as_ray_starts_it, agent),
            (*as_we_do, no_agent.__file__),
        ),
        Change(
            "runtime_env_agent_command",
            (*as_ray_starts_it, environments),
            (*as_we_do, agent_when_asked.__file__, environments),
        ),
    ]
    return changes if _forks is None else [*changes, _forks.change()]


@contextmanager
def _deaf_to_the_terminal() -> Iterator[None]:
    """Start processes that ignore the terminal's end: we get that signal, and end them in order.

    Ray does the same itself for the signal of Ctrl-C.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _raylet_socket() -> str:
    from ray._private import worker

    node = worker._global_node
    if node is None:  # it has ended again
        raise ConnectionError("Ray has no raylet on this machine")
    return str(node.raylet_socket_name)


def _ask_for_token(data: Path) -> None:
    os.environ["RAY_AUTH_MODE"] = "token"
    file = data / TOKEN_FILE
    once_written(file, lambda: secrets.token_hex(32))
    file.chmod(0o600)
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(file)


def _log_little() -> None:
    """Limit the logs of Ray's processes: by default each may have six files of 512 MB."""
    os.environ.setdefault("RAY_ROTATION_MAX_BYTES", str(LOG_BYTES))
    os.environ.setdefault("RAY_ROTATION_BACKUP_COUNT", "1")


def _stay_on_loopback() -> None:
    """Keep Ray's servers off the network, and omit those that are not used here.

    Ray binds all of them to its node's address. That is loopback if clusters are switched off, as
    on a Mac; an address given to `ray.init` is resolved to one on the network.
    """
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    from ray._private import ray_constants, worker
    from ray._private.node import Node

    ray_constants.ENABLE_RAY_CLUSTER = False  # in case Ray was imported before
    # The autoscaler's monitor, the log monitor and the dashboard's server take 160 MB and 3 s of a
    # start, and are three more processes that may die. Nothing reads their output.
    unneeded: dict[str, Callable[..., None]] = {
        "start_monitor": lambda _: None,
        "start_log_monitor": lambda _: None,
        "start_api_server": lambda node, **_: setattr(node, "_webui_url", None),
    }
    for name, nothing in unneeded.items():
        setattr(Node, name, nothing)
    # Its thread prints a raylet's last words to our standard output, which is only for `ready`. If
    # nobody reads that, a full pipe would block the thread, and the thread would block leaving Ray.
    worker.listen_error_messages = lambda *_: None


def _import_path() -> list[str]:
    """Return the import path for actor processes: our packages, and the user's."""
    ours = Path(__file__).resolve().parents[__name__.count(".")]
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return list(dict.fromkeys([str(Path.cwd()), str(ours), *filter(None, known)]))
