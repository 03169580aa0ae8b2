"""What is reported if a node lacks the domain."""

from __future__ import annotations

from typing import Any

import pytest

from rayfold import DomainError, Middleware
from rayfold.runtime.node import node_name
from rayfold.runtime.node_domain import (
    broke_while_made,
    check_middleware,
    load_domain,
    why_not_made,
)
from tests.unit.middleware_domain import with_middleware

OF_RAY = """The actor died because of an error raised in its creation task, \
\x1b[36mray::HostActor.__init__()\x1b[39m (pid=7, ip=10.77.0.2, actor_id=0a, repr=<HostActor>)
  File "actors/host/host_actor.py", line 37, in __init__
    self._registry = load_domain(domain)
rayfold.errors.DomainError: node two does not run it: cannot import the domain 'shop': \
ModuleNotFoundError: No module named 'shop': install it there"""

OF_A_BARE_NODE = """The actor died because of an error raised in its creation task, \
ray::_FakeActor.__init__() (pid=7, ip=10.77.0.3, actor_id=0a)
RuntimeError: The actor with name HostActor failed to import on the worker. Traceback:
ModuleNotFoundError: No module named 'actors'"""


def test_a_node_without_the_domain_is_named_with_the_package() -> None:
    with pytest.raises(DomainError) as raised:
        load_domain("no_such_package")
    told = str(raised.value)
    assert f"node {node_name()} " in told
    assert "'no_such_package'" in told
    assert "\n" not in told


def test_a_node_where_middleware_cannot_be_made_is_named_with_the_class() -> None:
    class Quotas(Middleware, name="quotas"):
        def __init__(self) -> None:
            raise KeyError("QUOTA_URL")

        async def query(self, query: Any, context: Any, proceed: Any) -> Any:
            return await proceed(query)

    with pytest.raises(DomainError) as raised:
        check_middleware(with_middleware(Quotas))
    told = str(raised.value)
    assert told.startswith(f"node {node_name()} does not run it: ")
    assert told.endswith("Quotas cannot be made: KeyError: 'QUOTA_URL'")


def test_why_an_actor_was_not_made_is_one_line_that_names_the_node() -> None:
    told = why_not_made(RuntimeError(OF_RAY))
    assert told.startswith("node two does not run it: cannot import the domain 'shop'")
    bare = why_not_made(RuntimeError(OF_A_BARE_NODE))
    assert "10.77.0.3" in bare
    assert "'actors'" in bare
    assert "\n" not in told + bare
    assert broke_while_made(RuntimeError(OF_RAY))
    assert not broke_while_made(RuntimeError("The actor died unexpectedly"))


def test_other_reasons_are_reported_as_they_are() -> None:
    assert "no node has room for it, or the resources that the setting `claims`" in why_not_made(
        TimeoutError()
    )
    assert why_not_made(OSError("no route")) == "OSError: no route"
