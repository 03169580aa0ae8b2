"""Hosts with addresses of their own on one machine, joined by a switch: for tests of a cluster."""

from __future__ import annotations

from tests.hosts.host import Host, HostProcess
from tests.hosts.network import Network

__all__ = ["Host", "HostProcess", "Network"]
