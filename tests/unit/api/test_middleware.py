"""A domain's middleware at a gateway: around commands, queries, and all that shows a row."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from pydantic import AfterValidator

from api.http.auth import Role, Token
from api.queries import query_middleware
from api.queries.query_middleware import QueryMiddleware
from domain.inventory.views import StockLevels
from domain.orders.commands import CreateOrder
from domain.orders.queries import GetOrder
from rayfold import (
    Answer,
    Command,
    CommandContext,
    Forbidden,
    Middleware,
    NotFound,
    ProceedCommand,
    ProceedQuery,
    Query,
    QueryContext,
    Reading,
    Receipt,
    Registry,
)
from rayfold.runtime.middleware_layers import DomainMiddleware
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID
from tests.unit.api.problems import problem
from tests.unit.middleware_domain import with_middleware

ORDER = f"/orders/{ORDER_ID}"
READINGS = [
    (ORDER, Reading.NOW),
    (f"/queries/get-order?order_id={ORDER_ID}", Reading.NOW),
    (f"{ORDER}?as_of=0", Reading.AS_OF),
    (f"{ORDER}/history", Reading.HISTORY),
    (f"{ORDER}/live", Reading.LIVE),
]
TOKENS = [
    Token("ada", "ada-secret", Role.WRITER, frozenset({"orders:create"})),
    Token("bob", "bob-secret", Role.READER),
]


class Commands(Middleware):
    async def command(
        self, command: Command, context: CommandContext, proceed: ProceedCommand
    ) -> Any:
        return await proceed(command)


class Queries(Middleware):
    async def query(self, query: Query, context: QueryContext, proceed: ProceedQuery) -> Any:
        return await proceed(query)


def gateway(*classes: type[Middleware], **options: Any) -> Gateway:
    return Gateway(with_middleware(*classes), options=options)


async def test_middleware_knows_the_sender_and_a_refused_permission_is_403() -> None:
    seen: list[CommandContext] = []

    class Asking(Commands, name="asking"):
        async def command(
            self, command: Command, context: CommandContext, proceed: ProceedCommand
        ) -> Receipt:
            seen.append(context)
            if not context.may("orders:cancel"):
                raise Forbidden("not-yours", "only the shop cancels")
            return await proceed(command)

    made, key = gateway(Asking, tokens=TOKENS), str(uuid4())
    headers = {
        "Authorization": "Bearer ada-secret",
        "Cookie": "a=b",
        "Idempotency-Key": key,
        "If-Match": '"4"',
        "X-Correlation-Id": "c-1",
        "X-Causation-Id": "c-0",
        "X-Shop": "7",
    }
    reply = await made.http.post(f"{ORDER}/cancel", headers=headers)
    told = problem(reply, 403, "not-yours")
    assert (told["detail"], told["code"]) == ("only the shop cancels", "not-yours")
    assert made.commands.sent == []
    [context] = seen
    assert (str(context.command_id), context.stream) == (key, f"order-{ORDER_ID}")
    assert (context.principal, context.role, set(context.permissions)) == (
        "ada",
        "writer",
        {"orders:create"},
    )
    assert (context.correlation_id, context.causation_id) == ("c-1", "c-0")
    assert (context.origin, context.expected_revision) == ("http", 4)
    assert context.headers["x-shop"] == "7"
    assert not {"authorization", "cookie"} & set(context.headers)
    told = (await made.http.get(f"/commands/{key}", headers=headers)).json()
    assert (told["status"], told["code"]) == ("rejected", "not-yours")


async def test_a_command_is_rewritten_and_keeps_the_fingerprint_of_what_the_client_sent() -> None:
    class Filling(Commands, name="filling"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            assert isinstance(command, CreateOrder)
            return await proceed(command.replace(customer_id="ada"))

    made, plain = gateway(Filling), Gateway(Registry.load("domain"))
    body = {"order_id": ORDER_ID, "customer_id": "?"}
    for each in (made, plain):
        assert (await each.http.post("/orders", json=body)).status_code == 202
    [rewritten], [sent] = made.commands.sent, plain.commands.sent
    assert json.loads(rewritten.payload)["customer_id"] == "ada"
    assert rewritten.fingerprint == sent.fingerprint


@pytest.mark.parametrize("after", [False, True])
async def test_an_error_of_middleware_is_500_and_shows_only_its_name(after: bool) -> None:
    class Broken(Commands, name="broken"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            if after:
                await proceed(command)
            raise ZeroDivisionError("password 1234")

    made, key = gateway(Broken), str(uuid4())
    reply = await made.http.post(f"{ORDER}/cancel", headers={"Idempotency-Key": key})
    told = problem(reply, 500, "middleware-failed")
    assert "'broken' broke: ZeroDivisionError, see the log" in told["detail"]
    assert ("done before" in told["detail"]) == after
    assert "1234" not in reply.text
    assert len(made.commands.sent) == after
    status = (await made.http.get(f"/commands/{key}")).json()
    assert status["status"] == "processing"
    assert "'broken'" in status["detail"]


async def test_middleware_that_hangs_ends_with_the_clients_timeout() -> None:
    class Hanging(Middleware, name="hanging"):
        async def command(self, command: Command, context: Any, proceed: Any) -> Any:
            await asyncio.Event().wait()

        async def query(self, query: Query, context: Any, proceed: Any) -> Any:
            await asyncio.Event().wait()

    made = gateway(Hanging)
    reply = await made.http.post(f"{ORDER}/cancel", headers={"Rayfold-Timeout": "0.05"})
    told = problem(reply, 503, "write-side-unavailable")["detail"]
    assert told == "the command's deadline has passed, in the domain's middleware 'hanging'"


async def test_a_query_that_hangs_in_middleware_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Queries, name="hanging"):
        async def query(self, query: Query, context: Any, proceed: Any) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr(query_middleware, "TIMEOUT", 0.05)
    reply = await gateway(Hanging).http.get(f"{ORDER}/history")
    problem(reply, 503, "query-timeout")


@pytest.mark.parametrize(("path", "reading"), READINGS)
async def test_every_answer_with_a_row_goes_through_middleware(path: str, reading: Reading) -> None:
    seen: list[tuple[Query, QueryContext]] = []

    class Owners(Queries, name="owners"):
        async def query(self, query: Query, context: QueryContext, proceed: ProceedQuery) -> Answer:
            seen.append((query, context))
            raise Forbidden("not-yours", "it is another's")

    made = gateway(Owners, tokens=TOKENS)
    headers = {"Authorization": "Bearer bob-secret"}
    problem(await made.http.get(path, headers=headers), 403, "not-yours")
    [(query, context)] = seen
    assert query == GetOrder(order_id=UUID(ORDER_ID))
    assert (context.principal, context.role, context.reading) == ("bob", "reader", reading)
    assert made.queries.asked == []
    assert made.queries.followed == []


async def test_a_resumed_live_query_goes_through_middleware() -> None:
    """With `Last-Event-ID` the row is not read before the stream begins, but it must be allowed."""

    class No(Queries, name="no"):
        async def query(self, query: Query, context: Any, proceed: Any) -> Any:
            raise Forbidden("not-yours", "no")

    async with asyncio.timeout(30):  # a stream has no end
        reply = await gateway(No).http.get(f"{ORDER}/live", headers={"Last-Event-ID": "3"})
    problem(reply, 403, "not-yours")


async def test_an_answer_with_another_body_has_no_revision() -> None:
    class Hiding(Queries, name="hiding"):
        async def query(self, query: Query, context: QueryContext, proceed: ProceedQuery) -> Answer:
            answer = await proceed(query)
            document = answer.document
            del document["lines"]
            return answer.with_document(document)

    made = gateway(Hiding)
    whole = (await gateway().http.get(ORDER)).headers["etag"]
    reply = await made.http.get(ORDER, headers={"If-None-Match": whole})
    assert (reply.status_code, reply.json()) == (200, {"order_id": ORDER_ID, "revision": 3})
    assert "etag" not in reply.headers
    assert reply.headers["consistency-token"] == "42"
    minimal = await made.http.get(ORDER, headers={"Prefer": "return=minimal"})
    assert minimal.json() == {"order_id": ORDER_ID}


async def test_an_unchanged_answer_keeps_its_entity_tag_and_a_hidden_row_is_404() -> None:
    class Looking(Queries, name="looking"):
        async def query(self, query: Query, context: QueryContext, proceed: ProceedQuery) -> Answer:
            answer = await proceed(query)
            if "x-hide" in context.headers:
                return answer.with_document(None)
            if "x-refuse" in context.headers:
                raise NotFound("unknown-order", "there is none")
            return answer

    made = gateway(Looking)
    assert (await made.http.get(ORDER)).headers["etag"].startswith('"3-')
    problem(await made.http.get(ORDER, headers={"X-Hide": "1"}), 404, "not-found")
    problem(await made.http.get(ORDER, headers={"X-Refuse": "1"}), 404, "unknown-order")
    problem(await made.http.get(f"{ORDER}/history", headers={"X-Hide": "1"}), 404, "not-found")


@pytest.mark.parametrize(
    ("made_up", "reason"),
    [
        (None, "returned a NoneType"),
        (b"{}", "returned a bytes"),
        (Answer(b"{}", None, 41), "proceed did not return"),
        (Answer("{}", None, 42), "returned a Answer"),  # type: ignore[arg-type]
    ],
)
async def test_middleware_must_return_an_answer_of_a_store(made_up: Any, reason: str) -> None:
    class Inventing(Queries, name="inventing"):
        async def query(self, query: Query, context: Any, proceed: Any) -> Any:
            await proceed(query)
            return made_up

    told = problem(await gateway(Inventing).http.get(ORDER), 500, "middleware-failed")
    assert reason in told["detail"]


@pytest.mark.parametrize("value", [float("nan"), "\ud800", uuid4()])
async def test_a_body_that_is_not_json_is_not_sent(value: Any) -> None:
    class Measuring(Queries, name="measuring"):
        async def query(self, query: Query, context: Any, proceed: Any) -> Any:
            answer = await proceed(query)
            return answer.with_document({"value": value})

    problem(await gateway(Measuring).http.get(ORDER), 500, "middleware-failed")


async def test_a_query_may_be_changed_and_is_validated_again() -> None:
    other = uuid4()

    class Changing(Queries, name="changing"):
        async def query(self, query: Query, context: QueryContext, proceed: ProceedQuery) -> Any:
            if "x-bad" in context.headers:
                return await proceed(GetOrder.model_construct(order_id="?"))
            return await proceed(query.replace(order_id=other))

    made = gateway(Changing)
    await made.http.get(ORDER)
    assert [query.order_id for query, _, _ in made.queries.asked] == [other]  # type: ignore[attr-defined]
    told = problem(await made.http.get(ORDER, headers={"X-Bad": "1"}), 500, "middleware-failed")
    assert "called proceed with a get-order that is not valid" in told["detail"]


async def test_a_query_that_is_left_as_it_is_is_not_validated_twice() -> None:
    """A validator may change a value again that it has already changed."""

    class Doubling(Query, name="doubling", view=StockLevels):
        sku: Annotated[str, AfterValidator(lambda given: given * 2)]

    async def ask(query: Query) -> Answer:
        raise AssertionError

    asked = Doubling(sku="tea")
    ends = query_middleware._QueryEnds(asked, ask)
    assert ends.checked(asked).model_dump() == {"sku": "teatea"}


async def test_each_row_of_a_live_query_goes_through_middleware_before_it_is_sent() -> None:
    allowed = iter((True, True, False))
    shown = asyncio.Event()

    class Turning(Queries, name="turning"):
        async def query(self, query: Query, context: QueryContext, proceed: ProceedQuery) -> Answer:
            if not next(allowed):
                raise Forbidden("not-yours", "no more")
            answer = await proceed(query)
            if made.queries.followed:
                shown.set()
            return answer.with_document({"seen": answer.position})

    made = gateway(Turning)

    async def change() -> None:
        await shown.wait()
        made.queries.answer = Answer(b"{}", 4, 43)

    async with asyncio.timeout(30):
        changing = asyncio.create_task(change())
        reply = await made.http.get(f"{ORDER}/live")  # ends, as the third is refused
        await changing
    assert reply.text == 'id: 42\ndata: {"seen":42}\n\n'


async def test_a_stale_store_is_still_reported_as_stale() -> None:
    from projections.errors import Behind

    class Plain(Queries, name="plain"):
        query = _on

    made = gateway(Plain)
    made.queries.error = Behind("order-details", 3, 9)
    reply = await made.http.get(ORDER, headers={"Consistency-Token": "9"})
    assert (reply.status_code, reply.json()["status"]) == (202, "processing")


async def _on(self: Any, query: Query, context: QueryContext, proceed: ProceedQuery) -> Answer:
    return await proceed(query)


async def test_the_openapi_document_has_the_refusals_of_middleware() -> None:
    class Plain(Queries, name="plain"):
        query = _on

    described = (await gateway(Plain).http.get("/schema")).json()["paths"]
    order = "/orders/{order_id}"
    for path in (order, f"{order}/history", f"{order}/live", "/queries/get-order"):
        assert {"403", "409", "500"} <= set(described[path]["get"]["responses"]), path


async def test_a_domain_without_middleware_uses_the_two_sides_directly(
    registry: Registry,
) -> None:
    """Then nothing is wrapped around the two sides."""
    assert QueryMiddleware.of(DomainMiddleware(registry)) is None
    made = Gateway(registry)
    for method, path in (("GET", ORDER), ("POST", f"{ORDER}/cancel")):
        assert (await made.http.request(method, path)).status_code in (200, 202)
    assert len(made.commands.sent) == len(made.queries.asked) == 1
