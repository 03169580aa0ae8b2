"""Ray, of our own or somebody's cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.errors import StartError

OBJECT_STORE = 512 * 1024 * 1024
"""Bytes for copies of replicas on their way; commands and answers travel inline."""


def start(address: str | None, namespace: str, wanted: Callable[[], bool] = lambda: True) -> None:
    """Start Ray on this machine, or join the cluster at `address`. Blocks.

    Raises:
        StartError: it does not come up.
    """
    # Explicit, as a local start turns token authentication on and joining one does not.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
    os.environ["PYTHONPATH"] = os.pathsep.join(_import_path())
    import ray

    common: dict[str, Any] = {
        "namespace": namespace,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if address:
        options = common | {"address": address}
    else:
        options = common | {
            "address": "local",
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",  # nothing of a laptop's is for its network
            "object_store_memory": OBJECT_STORE,
            # Writers are as urgent as the gateway; readers step back by themselves.
            "_system_config": {"enable_metrics_collection": False, "worker_niceness": 0},
        }
    for last in (False, False, True):
        try:
            ray.init(**options)
        except (Exception, SystemExit) as error:  # Ray raises all sorts of things here
            ray.shutdown()
            if last or not wanted():
                where = f"at {address}" if address else "on this machine"
                raise StartError(f"Ray did not start {where}: {error}") from error
            # About one local start in fifty ends with a GCS and no raylet; the next one is fine.
        else:
            return


def stop() -> None:
    """Leave Ray; stops it if we started it. Blocks."""
    import ray

    ray.shutdown()


def _import_path() -> list[str]:
    """Say where the actors' processes find our packages, and the user's in the working folder."""
    ours = Path(__file__).resolve().parents[__name__.count(".")]
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return list(dict.fromkeys([str(Path.cwd()), str(ours), *filter(None, known)]))
