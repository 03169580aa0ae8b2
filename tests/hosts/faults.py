"""What happens to hosts and processes, and what clients outside notice of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import httpx
import psutil

from tests.hosts.cluster import Cluster
from tests.hosts.host import PATIENCE, Host
from tests.hosts.load import Account, Spell

DARK = 3.0
"""Seconds that a host stays down."""

ACTORS = ("Host", "Replica", "Projector")

ANSWERS = 200
"""Of the load, after a fault, before the next one."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and is made good by whoever runs the hosts."""

    name: str
    happen: Callable[[Host], None]
    """To one of these; the one with most of Rayfold's actors."""
    victims: Sequence[Host]


class Suffered(NamedTuple):
    """What came of one."""

    fault: Fault
    victim: Host
    actors: int
    """Of Rayfold's, that ran there."""
    spell: Spell


def node_killed(hosts: Sequence[Host]) -> Fault:
    """All processes of a host end at once; it boots again."""

    def happen(host: Host) -> None:
        host.kill()
        time.sleep(DARK)
        host.boot()

    return Fault("a node killed (-9 to all of it)", happen, hosts)


def node_without_power(hosts: Sequence[Host]) -> Fault:
    """A host goes without a word to anybody; it boots again."""

    def happen(host: Host) -> None:
        host.power_off()
        time.sleep(DARK)
        host.boot()

    return Fault("a node without power", happen, hosts)


def link_cut(hosts: Sequence[Host], seconds: float) -> Fault:
    """A host runs on, and nobody reaches it for so long."""

    def happen(host: Host) -> None:
        host.cut()
        time.sleep(seconds)
        host.join()

    return Fault(f"a link cut for {seconds:.0f} s", happen, hosts)


def process_killed(name: str, host: Host, command: str) -> Fault:
    """SIGKILL to one process, by what its command line has; its supervisor starts it again."""

    def happen(host: Host) -> None:
        killed = host.processes(command)
        assert killed, f"{host.name} runs no {command}"
        for process in killed:
            with suppress(psutil.NoSuchProcess):  # it ended with its parent
                process.kill()
                process.wait(PATIENCE)

    return Fault(f"{name} killed", happen, [host])


def actors(host: Host) -> int:
    """Return how many of Rayfold's actors run on a host."""
    return sum(len(host.processes(f"ray::{name}Actor")) for name in ACTORS)


def suffer(hosts: Cluster, account: Account, fault: Fault, settle: float) -> Suffered:
    """Let it happen, under load; return what clients saw until all of it was good again.

    The load goes on for `settle` seconds after the fault at least: what comes late is seen too.
    """
    account.spell()
    there, victim = max(((actors(host), host) for host in fault.victims), key=lambda each: each[0])
    fault.happen(victim)
    time.sleep(settle)
    account.wait_for(ANSWERS)
    whole(hosts)
    return Suffered(fault, victim, there, account.spell())


def whole(hosts: Cluster) -> None:
    """Wait until every gateway serves and says that every part is ready."""
    deadline = time.monotonic() + PATIENCE
    for host in hosts.gateways:
        while (missing := _missing(hosts, host)) is not None:
            assert time.monotonic() < deadline, f"{host.name}: {missing}"
            time.sleep(0.1)


def _missing(hosts: Cluster, host: Host) -> str | None:
    try:
        with hosts.client(host) as http:
            answer = http.get("/operators/status", timeout=5)
    except httpx.TransportError as error:
        return repr(error)
    if answer.status_code != 200:
        return answer.text
    parts = [part for part in answer.json()["parts"] if not part["ready"]]
    return str(parts) if parts else None


def table(suffered: list[Suffered]) -> str:
    """Return the worst of each kind, as the documentation has it."""
    kinds: dict[str, list[Suffered]] = {}
    for each in suffered:
        kinds.setdefault(each.fault.name, []).append(each)
    rows = [
        "| fault | times | actors lost | nobody had an answer | a write took | a read took |"
        " receipts |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, times in kinds.items():
        silence, write, read = (max(each.spell[n] for each in times) for n in range(3))
        rows.append(
            f"| {name} | {len(times)} | {sum(each.actors for each in times)} | {silence:.1f} s |"
            f" {write:.1f} s | {read:.1f} s | {sum(each.spell.receipts for each in times):,} |"
        )
    return "\n".join(rows)
