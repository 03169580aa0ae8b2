"""A switch, in a namespace of its own, and the hosts that are plugged into it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from pyroute2 import IPRoute

from tests.hosts.host import Host
from tests.hosts.namespaces import Namespaces

SUBNET = "10.77.0"
BITS = 24


class Network:
    """Hosts with addresses of their own; a context, so that all of it goes whatever happens."""

    def __init__(self, folder: Path) -> None:
        """`folder` is for the hosts' logs and data."""
        self._folder = folder
        self._hosts: list[Host] = []
        self._switch = Namespaces("switch", folder / "switch")
        with self._switch.inside(), IPRoute() as netlink:
            netlink.link("add", ifname="switch", kind="bridge")
            netlink.link("set", index=netlink.link_lookup(ifname="switch")[0], state="up")

    def host(self, name: str) -> Host:
        """Return a new host, which is up."""
        number = len(self._hosts) + 1
        host = Host(self, name, number, self._folder / name)
        self._hosts.append(host)
        host.boot()
        return host

    def plug(self, number: int, namespaces: Namespaces) -> None:
        """Connect a host; its card keeps its number, and so its addresses, over a restart."""
        with self._switch.inside(), IPRoute() as netlink:
            # The kernel takes its time to undo the namespaces of a host that was killed.
            for left in netlink.link_lookup(ifname=_port(number)):
                netlink.link("del", index=left)
            card = {"ifname": "eth0", "address": f"02:00:00:77:00:{number:02x}"}
            peer = {**card, "net_ns_fd": namespaces.network}
            netlink.link("add", ifname=_port(number), kind="veth", peer=peer)
            switch = netlink.link_lookup(ifname="switch")[0]
            port = netlink.link_lookup(ifname=_port(number))[0]
            netlink.link("set", index=port, master=switch, state="up")
        with namespaces.inside(), IPRoute() as netlink:
            card_index = netlink.link_lookup(ifname="eth0")[0]
            netlink.addr("add", index=card_index, address=address(number), prefixlen=BITS)
            for index in (card_index, netlink.link_lookup(ifname="lo")[0]):
                netlink.link("set", index=index, state="up")

    def switch_port(self, number: int, *, up: bool) -> None:
        """Cut a host's link, or join it again: as with a pulled cable, nobody is told."""
        with self._switch.inside(), IPRoute() as netlink:
            port = netlink.link_lookup(ifname=_port(number))[0]
            netlink.link("set", index=port, state="up" if up else "down")

    def close(self) -> None:
        """End all hosts and the switch: together, as the kernel takes seconds for each."""
        ends = [*(host.kill for host in self._hosts), self._switch.end]
        with ThreadPoolExecutor(len(ends)) as pool:
            list(pool.map(lambda end: end(), ends))

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def address(number: int) -> str:
    """Return a host's address."""
    return f"{SUBNET}.{number}"


def _port(number: int) -> str:
    return f"port{number}"
