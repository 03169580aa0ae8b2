"""A stack on a cluster that could never work says so in one line, and at once."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.hosts.cluster import Cluster, cluster


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts


def refusal(hosts: Cluster, name: str, *options: str, **environment: str) -> str:
    """Return what `rayfold up` says as it refuses."""
    began = time.monotonic()
    hosts.head.environment |= environment
    up = hosts.rayfold(hosts.head, name, "up", "--host", hosts.head.address, *options)
    code = up.wait()
    print(f"{name}: refused after {time.monotonic() - began:.1f} s\n{up.log()}")
    for variable in environment:
        del hosts.head.environment[variable]
    assert code == 2
    said = [line for line in up.log().splitlines() if line.startswith("rayfold: ")]
    assert len(said) == 1, up.log()
    return said[0]


def test_stores_of_one_host_are_refused_on_a_cluster_of_three(hosts: Cluster) -> None:
    told = refusal(hosts, "alone", "--ray-address", hosts.ray)
    assert "give --eventstore" in told
    assert hosts.hosts[1].address in told


def test_an_address_without_ray_is_refused(hosts: Cluster) -> None:
    told = refusal(hosts, "nobody", "--ray-address", f"{hosts.hosts[1].address}:6399")
    assert f"no Ray answers at {hosts.hosts[1].address}:6399" in told


def test_a_node_without_the_domain_is_named_and_a_runtime_environment_brings_it(
    hosts: Cluster, tmp_path: Path
) -> None:
    package = tmp_path / "lonely"
    package.mkdir()
    for module in ("__init__", "baskets", "views", "bestsellers"):
        text = (ROOT / "examples" / "shop" / f"{module}.py").read_text()
        (package / f"{module}.py").write_text(text.replace("examples.shop", "lonely"))
    stores = ("--eventstore", hosts.eventstore, "--postgres", hosts.postgres)
    # The one who starts it has the package, Ray's nodes do not.
    with_domain = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "RAYFOLD_DOMAIN": "lonely"}
    told = refusal(hosts, "without", "--ray-address", hosts.ray, *stores, **with_domain)
    assert re.search("node (one|two|three) does not run it: .*'lonely'.* RAYFOLD_RUNTIME_ENV", told)
    hosts.head.environment |= with_domain
    hosts.head.environment["RAYFOLD_RUNTIME_ENV"] = json.dumps({"py_modules": [str(package)]})
    up = hosts.up(hosts.head)
    assert up.stop() == 0
