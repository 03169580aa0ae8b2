"""Which node an actor is to run on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from deploy.stack import nodes as module
from deploy.stack.nodes import CLAIMS, Node, Nodes

THREE = [Node(name, f"10.0.0.{at}", {"CPU": 4.0}) for at, name in enumerate("abc", 1)]

Place = Callable[..., str]


class Cluster:
    """Nodes that come and go."""

    def __init__(self, *nodes: Node, **claims: Any) -> None:
        self.alive = list(nodes)
        self.nodes = Nodes(lambda: self.alive, lambda node: node, **claims)

    def place(self, name: str, kind: str = "write", apart: str | None = None) -> str:
        return str(self.nodes.options(name, kind, apart or kind)["scheduling_strategy"])


@pytest.fixture
def three() -> Cluster:
    return Cluster(*THREE)


def test_parts_that_must_not_fail_together_are_on_different_nodes(three: Cluster) -> None:
    for kind in ("write", "memory", "postgres"):
        assert {three.place(f"{kind}#{number}", kind) for number in range(3)} == set("abc")


def test_nodes_are_filled_evenly_whatever_the_kinds(three: Cluster) -> None:
    kinds = ["write", "memory", "postgres:a", "postgres:b", "postgres:c", "sql"]
    places = Counter(three.place(kind, "postgres", kind) for kind in kinds)
    assert set(places.values()) == {2}


def test_an_actor_that_is_made_again_may_stay_on_its_node(three: Cluster) -> None:
    places = [three.place(f"write#{number}") for number in range(3)]
    assert [three.place(f"write#{number}") for number in range(3)] == places


def test_a_node_on_which_an_actor_fell_silent_is_avoided_for_a_while(
    three: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = three.place("write#0")
    three.nodes.suspect("write#0")
    assert three.place("write#0") != place
    assert three.place("memory#0", "memory") != place
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e12)
    assert {three.place(f"memory#{number}", "memory") for number in range(3)} == set("abc")


def test_a_suspect_node_is_better_than_none() -> None:
    one = Cluster(THREE[0])
    assert one.place("write#0") == "a"
    one.nodes.suspect("write#0")
    assert one.place("write#0") == "a"


def test_a_node_that_is_gone_gets_nothing(three: Cluster) -> None:
    del three.alive[0]
    assert {three.place(f"write#{number}") for number in range(4)} == set("bc")


def test_ended_actors_do_not_count(three: Cluster) -> None:
    for number in range(2):
        three.place(f"write#{number}")
    for number in range(2):
        three.nodes.ended(f"write#{number}")
    assert three.place("write#2") == "a"


def test_a_node_without_the_claimed_resources_gets_nothing() -> None:
    head, big = Node("head", "10.0.0.1", {"CPU": 0.0}), THREE[1]
    own = Node("own", "10.0.0.4", {"CPU": 4.0, "writers": 1.0})
    claims = CLAIMS | {"write": {"CPU": 0.1, "writers": 0.1}}
    cluster = Cluster(head, big, own, claims=claims)
    assert {cluster.place(f"write#{number}") for number in range(3)} == {"own"}
    assert {cluster.place(f"memory#{number}", "memory") for number in range(3)} == {"b", "own"}


def test_if_no_node_has_the_claimed_resources_ray_waits_and_that_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = Cluster(Node("head", "10.0.0.1", {"CPU": 0.0}))
    assert cluster.nodes.options("write#0", "write", "write") == {"num_cpus": 0.1, "resources": {}}
    assert [vars(each)["claims"] for each in caplog.records] == [{"CPU": 0.1}]


def test_a_part_without_room_besides_our_others_is_logged_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = Cluster(Node("small", "10.0.0.1", {"CPU": 2.0}))
    for number in range(20):
        cluster.place(f"write#{number}")
    assert not caplog.records
    assert cluster.place("memory#0", "memory") == "small"
    assert [vars(each)["part"] for each in caplog.records] == ["memory#0"]


def test_on_a_single_machine_nothing_is_claimed() -> None:
    cluster = Cluster(Node("here", "127.0.0.1", {"CPU": 2.0}), claims={})
    for number in range(64):
        options = cluster.nodes.options(f"write#{number}", "write", "write")
        assert options == {"num_cpus": 0.0, "resources": {}, "scheduling_strategy": "here"}


def test_parts_that_came_together_while_a_node_was_lost_are_separated_when_it_is_back() -> None:
    a, b = (Node(f"id-{name}", name, {"CPU": 4.0}, name) for name in "ab")
    two = Cluster(a, b)
    for name in ("memory#0", "memory#1", "write#0"):
        two.place(name, name.partition("#")[0])
    assert not any(two.nodes.misplaced(f"memory#{number}") for number in (0, 1))
    two.alive = [a]
    for number in (0, 1):  # as Ray has restarted them
        two.nodes.found(f"memory#{number}", "memory", "a")
        assert not two.nodes.misplaced(f"memory#{number}")
    two.alive = [a, b]
    assert two.nodes.misplaced("memory#1")
    assert two.place("memory#1", "memory") == "id-b"
    assert not any(two.nodes.misplaced(f"memory#{number}") for number in (0, 1))
    assert not two.nodes.misplaced("write#0")  # alone of its kind
    two.nodes.found("memory#1", "memory", "a")
    two.nodes.suspect("memory#0")
    two.nodes.ended("memory#0")
    assert not two.nodes.misplaced("memory#1")


def test_a_node_without_room_is_not_a_better_place() -> None:
    a, b = Node("id-a", "a", {"CPU": 4.0}, "a"), Node("id-b", "b", {}, "b")
    cluster = Cluster(a, b)
    assert [cluster.place(f"write#{number}") for number in (0, 1)] == ["id-a", "id-a"]
    assert not cluster.nodes.misplaced("write#0")
