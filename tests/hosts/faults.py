"""What happens to hosts and processes, and what clients outside notice of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from tests.hosts.cluster import Cluster
from tests.hosts.host import PATIENCE, Host
from tests.hosts.load import Account, Spell

DARK = 3.0
"""Seconds that a host stays down."""

ANSWERS = 200
"""Of the load, after a fault, before the next one."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and is made good by whoever runs the hosts."""

    name: str
    happen: Callable[[], None]


def node_killed(host: Host) -> Fault:
    """All processes of a host end at once; it boots again."""

    def happen() -> None:
        host.kill()
        time.sleep(DARK)
        host.boot()

    return Fault("node killed (-9 to all of it)", happen)


def node_without_power(host: Host) -> Fault:
    """A host goes without a word to anybody; it boots again."""

    def happen() -> None:
        host.power_off()
        time.sleep(DARK)
        host.boot()

    return Fault("node without power", happen)


def link_cut(host: Host, seconds: float) -> Fault:
    """A host runs on, and nobody reaches it for so long."""

    def happen() -> None:
        host.cut()
        time.sleep(seconds)
        host.join()

    return Fault(f"link cut for {seconds:.0f} s", happen)


def process_killed(name: str, host: Host, command: str) -> Fault:
    """SIGKILL to one process, by what its command line has; its supervisor starts it again."""

    def happen() -> None:
        for process in host.processes(command):
            process.kill()
            process.wait(PATIENCE)

    return Fault(f"{name} killed", happen)


def suffer(hosts: Cluster, account: Account, fault: Fault, settle: float) -> Spell:
    """Let it happen, under load; return what clients saw until all of it was good again.

    The load goes on for `settle` seconds after the fault at least: what comes late is seen too.
    """
    account.spell()
    fault.happen()
    time.sleep(settle)
    account.wait_for(ANSWERS)
    whole(hosts)
    return account.spell()


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


def table(suffered: list[tuple[Fault, Spell]]) -> str:
    """Return the worst of each kind, as the documentation has it."""
    kinds: dict[str, list[Spell]] = {}
    for fault, spell in suffered:
        kinds.setdefault(fault.name, []).append(spell)
    rows = [
        "| fault | times | nobody had an answer | a write took | a read took | receipts |",
        "|---|---|---|---|---|---|",
    ]
    for name, spells in kinds.items():
        silence, write, read = (max(each[n] for each in spells) for n in range(3))
        receipts = sum(each.receipts for each in spells)
        rows.append(
            f"| {name} | {len(spells)} | {silence:.1f} s | {write:.1f} s | {read:.1f} s |"
            f" {receipts:,} |"
        )
    return "\n".join(rows)
