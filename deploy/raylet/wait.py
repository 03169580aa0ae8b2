"""Retrying the start of a local Ray whose raylet does not come up.

Under load, about one start in sixty leaves a process that never writes its first log line: the GCS,
the raylet, or an agent that the raylet waits for. Ray waits half a minute for each, without
checking that the process lives. This waits for seconds only, and not at all for a dead process.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from deploy.errors import StartError

TIMEOUTS = (8.0, 15.0, 30.0)
"""Seconds for a raylet to register, in the first, second and third attempt."""

PAUSE = 2.0
"""Seconds between two attempts: the cause, such as a stalled disk, may last a moment."""

LOOK = 0.05
"""Seconds between two checks."""

GCS_TIMEOUT = 1.0
"""Seconds for the GCS to answer."""

log = logging.getLogger(__name__)


@contextmanager
def raylet_within(timeout: float) -> Iterator[None]:
    """Make a local `ray.init` in this context fail with `StartError` if no raylet is up in time.

    Processes of a failed start are killed, as Ray would leave them behind.
    """
    from ray._private import services
    from ray._private.node import Node

    nodes: list[Any] = []
    deadline = time.monotonic() + timeout
    start: Callable[..., Any] = Node.start_head_processes
    get_node: Callable[..., Any] = services.get_node

    def start_and_note(node: Any) -> None:
        nodes.append(node)
        start(node)

    def get_node_in_time(address: str, node_id: str) -> Any:
        # Ray's own request is answered by a raylet, or after half a minute; this one at once.
        while not _has_registered(nodes[-1], node_id):
            for kind, code in _ended(nodes[-1]):
                raise StartError(f"its {kind} ended as it started, with {code}")
            if time.monotonic() > deadline:
                raise StartError(f"no raylet came up in {timeout:.0f} s")
            time.sleep(LOOK)
        return get_node(address, node_id)

    variable = "RAY_gcs_server_port_wait_time_s"
    before = os.environ.get(variable)
    os.environ[variable] = str(int(timeout))
    patches: list[tuple[Any, str, Any]] = [
        (Node, "start_head_processes", start_and_note),
        (services, "get_node", get_node_in_time),
    ]
    for where, name, patch in patches:
        setattr(where, name, patch)
    try:
        yield
    except BaseException:
        for node in nodes:
            node.kill_all_processes(check_alive=False, allow_graceful=False)
        raise
    finally:
        for (where, name, _), true in zip(patches, (start, get_node), strict=True):
            setattr(where, name, true)
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before


def _has_registered(node: Any, node_id: str) -> bool:
    try:
        known = node.get_gcs_client().get_all_node_info(timeout=GCS_TIMEOUT)
    except Exception as error:  # Ray may raise anything here
        log.info("the GCS does not say which nodes there are", extra={"error": error})
        return False
    return any(each.hex() == node_id for each in known)


def _ended(node: Any) -> list[tuple[str, int]]:
    """Return the node's processes that have ended, with their exit codes."""
    processes: Callable[[], Any] = node.all_processes.items
    return [
        (str(kind), code)
        for kind, started in processes()
        for each in started
        if (code := each.process.poll()) is not None
    ]
