"""A connection to one table of DynamoDB, in Python's types; every read is a consistent one.

`aiodynamo` signs requests, finds credentials and tries again what DynamoDB throttles. What is asked
is written as the API has it, since no client's own words say all of it.
"""

from __future__ import annotations

import asyncio
import random
import re
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx
from aiodynamo.client import Client
from aiodynamo.credentials import Credentials
from aiodynamo.errors import (
    AIODynamoError,
    ConditionalCheckFailed,
    NoCredentialsFound,
    ResourceInUse,
    TableInUse,
    TableNotFound,
    TransactionCanceled,
)
from aiodynamo.http.httpx import HTTPX
from aiodynamo.models import DecorelatedJitterRetry
from yarl import URL

from projections.dynamodb.keys import Key
from projections.dynamodb.rows import Item
from projections.errors import ReadStoreUnavailable

TIMEOUT = 5.0
"""Seconds for a connection, or an answer."""

MADE = 120.0
"""Seconds for a table to be there."""

TRANSACTION = 100
"""Items that DynamoDB takes in one transaction."""

TRANSACTION_BYTES = 3_500_000
"""Bytes of them: it takes 4 MB, with what JSON adds."""

_READ, _WRITTEN = 100, 25
"""Items in one request."""

_ATTEMPTS = 8
"""Of what others at the same items, or a throttle, kept from being done."""

_NAME = re.compile(r"#\w+")

_PASSING = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}


class Check(NamedTuple):
    """A condition on an item: SQL-like, with values by `:name`; words are reserved as `#name`."""

    text: str
    values: Mapping[str, Any]


class Put(NamedTuple):
    """Write an item all over."""

    key: Key
    item: Item
    check: Check | None = None


class Delete(NamedTuple):
    """Remove an item."""

    key: Key
    check: Check | None = None


class Update(NamedTuple):
    """Change some attributes; those that are None go."""

    key: Key
    changes: Mapping[str, Any]
    check: Check


class Unchanged(NamedTuple):
    """Change nothing, but see that an item is as it must be."""

    key: Key
    check: Check


Action = Put | Delete | Update | Unchanged


class NotSo(Exception):
    """An item is not as it must be, so nothing was written."""


class Table:
    """Connects when it is first asked; the table is made by `ensure`."""

    def __init__(self, url: str) -> None:
        """`url`: `dynamodb://REGION/TABLE`, with `?endpoint=http://…` where it is not AWS'."""
        parts = urlsplit(url)
        self.name = parts.path.strip("/")
        self._region = parts.netloc
        endpoint = parse_qs(parts.query).get("endpoint")
        self._endpoint = URL(endpoint[0]) if endpoint else None
        self._http: httpx.AsyncClient | None = None
        self._client: Client | None = None

    async def _ask(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        if self._client is None:
            if not self.name or not self._region:
                raise ReadStoreUnavailable("a table of DynamoDB is dynamodb://REGION/TABLE")
            limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
            self._http = httpx.AsyncClient(timeout=TIMEOUT, limits=limits)
            self._client = Client(
                HTTPX(self._http),
                Credentials.auto(),
                self._region,
                self._endpoint,
                throttle_config=DecorelatedJitterRetry(time_limit_secs=TIMEOUT),
            )
        return await self._client.send_request(action=action, payload=payload)

    async def close(self) -> None:
        """Close all connections."""
        http, self._http, self._client = self._http, None, None
        if http is not None:
            await http.aclose()

    async def ensure(self) -> None:
        """Make the table if it is not there; it is paid by request then.

        Raises:
            ReadStoreUnavailable: it does not answer, or it may not be made.
        """
        named = {"TableName": self.name}
        keys = {"pk": "HASH", "sk": "RANGE"}
        making = named | {
            "KeySchema": [{"AttributeName": n, "KeyType": kind} for n, kind in keys.items()],
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": "S"} for name in keys
            ],
            "BillingMode": "PAY_PER_REQUEST",
        }
        with answering():
            async with asyncio.timeout(MADE):
                while True:
                    try:
                        found = await self._ask("DescribeTable", named)
                        if found["Table"]["TableStatus"] in ("ACTIVE", "UPDATING"):
                            return
                        await asyncio.sleep(0.5)
                    except TableNotFound:
                        try:
                            await self._ask("CreateTable", making)
                        except (ResourceInUse, TableInUse):  # somebody else makes it
                            await asyncio.sleep(0.5)

    async def get(self, keys: Sequence[Key]) -> list[Item | None]:
        """Return the items of these keys, None for those that are not there.

        Raises:
            ReadStoreUnavailable: no answer.
        """
        found: dict[Key, Item] = {}
        wanted = list(dict.fromkeys(keys))
        with answering():
            if len(wanted) == 1:
                one = {"Key": _typed(wanted[0]._asdict()), "ConsistentRead": True}
                answer = await self._ask("GetItem", {"TableName": self.name, **one})
                return [_plain(answer["Item"]) if "Item" in answer else None] * len(keys)
            for at in range(0, len(wanted), _READ):
                asked = [_typed(each._asdict()) for each in wanted[at : at + _READ]]
                pause = _pauses()
                while asked:
                    request = {self.name: {"Keys": asked, "ConsistentRead": True}}
                    answer = await self._ask("BatchGetItem", {"RequestItems": request})
                    for each in answer["Responses"].get(self.name, ()):
                        item = _plain(each)
                        found[Key(item["pk"], item["sk"])] = item
                    asked = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
                    if asked:
                        await asyncio.sleep(next(pause))
        return [found.get(each) for each in keys]

    async def page(
        self, pk: str, limit: int, *, since: str = "", until: str = ""
    ) -> tuple[list[Item], str | None]:
        """Return at most so many items of a partition key, by sort key, and where they go on.

        Their sort keys are from `since` on, and `until` at most, which needs a `since`.

        Raises:
            ReadStoreUnavailable: no answer.
        """
        condition, values = "pk = :pk", {":pk": pk}
        if until:
            condition = f"{condition} AND sk BETWEEN :a AND :b"
            values = {**values, ":a": since, ":b": until}
        elif since:
            condition, values = f"{condition} AND sk >= :a", {**values, ":a": since}
        with answering():
            asked = {"KeyConditionExpression": condition, "ConsistentRead": True, "Limit": limit}
            values_told = {"ExpressionAttributeValues": _typed(values)}
            answer = await self._ask("Query", {"TableName": self.name, **asked, **values_told})
        last = answer.get("LastEvaluatedKey")
        items: list[Item] = [_plain(each) for each in answer["Items"]]
        return items, None if last is None else last["sk"]["S"] + "\x00"

    async def all(self, pk: str, begins: str = "") -> AsyncIterator[Item]:
        """Yield all items of a partition key whose sort keys begin so, by sort key.

        Raises:
            ReadStoreUnavailable: no answer.
        """
        # A page goes on from a text, so a beginning is a range.
        until = f"{begins}\U0010ffff" if begins else ""
        since: str | None = begins
        while since is not None:
            items, since = await self.page(pk, 1000, since=since, until=until)
            for each in items:
                yield each

    async def transact(self, actions: Sequence[Action]) -> None:
        """Do all of them, or nothing.

        Raises:
            NotSo: a condition does not hold.
            ReadStoreUnavailable: not done, or nobody knows.
        """
        told = [self._told(each) for each in actions]
        pause = _pauses()
        with answering():
            for attempt in range(_ATTEMPTS):
                if attempt:
                    await asyncio.sleep(next(pause))
                # The same again, where there was no answer, is done once by its token.
                asked = {"TransactItems": told, "ClientRequestToken": secrets.token_hex(16)}
                try:
                    await self._ask("TransactWriteItems", asked)
                    return
                except TransactionCanceled as error:
                    codes = {each.code for each in error.cancellation_reasons if each is not None}
                    if "ConditionalCheckFailed" in codes:
                        raise NotSo from error
                    if attempt == _ATTEMPTS - 1 or not codes & _PASSING:
                        raise

    async def update(self, update: Update) -> Item:
        """Change an item; return it as it is then.

        Raises:
            NotSo: the condition does not hold.
            ReadStoreUnavailable: not done, or nobody knows.
        """
        with answering():
            asked = self._told(update)["Update"] | {"ReturnValues": "ALL_NEW"}
            try:
                answer = await self._ask("UpdateItem", asked)
            except ConditionalCheckFailed as error:
                raise NotSo from error
        return _plain(answer["Attributes"])

    async def write(self, actions: Iterable[Put | Delete]) -> None:
        """Do all of them in any order, not as one: until it returns, any of them may be done.

        Raises:
            ReadStoreUnavailable: some may not be done.
        """
        waiting = list(actions)
        with answering():
            for at in range(0, len(waiting), _WRITTEN):
                told = [_batched(each) for each in waiting[at : at + _WRITTEN]]
                pause = _pauses()
                while told:
                    asked = {"RequestItems": {self.name: told}}
                    answer = await self._ask("BatchWriteItem", asked)
                    told = answer.get("UnprocessedItems", {}).get(self.name, [])
                    if told:
                        await asyncio.sleep(next(pause))

    def _told(self, action: Action) -> dict[str, Any]:
        told: dict[str, Any] = {"TableName": self.name}
        match action:
            case Put(key, item, check):
                told["Item"] = _typed({**item, **key._asdict()})
                if check is not None:
                    told |= _checked(check)
                return {"Put": told}
            case Delete(key, check):
                told["Key"] = _typed(key._asdict())
                if check is not None:
                    told |= _checked(check)
                return {"Delete": told}
            case Unchanged(key, check):
                told["Key"] = _typed(key._asdict())
                return {"ConditionCheck": told | _checked(check)}
        return {"Update": told | _updating(action)}


def _updating(update: Update) -> dict[str, Any]:
    told = {"Key": _typed(update.key._asdict()), **_checked(update.check)}
    given = {name: each for name, each in update.changes.items() if each is not None}
    sets = ", ".join(f"#{name} = :new_{name}" for name in given)
    gone = ", ".join(f"#{name}" for name in update.changes if name not in given)
    told["UpdateExpression"] = f"SET {sets}" + (f" REMOVE {gone}" if gone else "")
    names = {f"#{name}": name for name in update.changes}
    values = _typed({f":new_{name}": each for name, each in given.items()})
    told["ExpressionAttributeNames"] = told.get("ExpressionAttributeNames", {}) | names
    told["ExpressionAttributeValues"] = told.get("ExpressionAttributeValues", {}) | values
    return told


def _checked(check: Check) -> dict[str, Any]:
    names = {word: word[1:] for word in _NAME.findall(check.text)}
    told: dict[str, Any] = {"ConditionExpression": check.text}
    if names:
        told["ExpressionAttributeNames"] = names
    if check.values:
        told["ExpressionAttributeValues"] = _typed(check.values)
    return told


def _batched(action: Put | Delete) -> dict[str, Any]:
    if isinstance(action, Put):
        return {"PutRequest": {"Item": _typed({**action.item, **action.key._asdict()})}}
    return {"DeleteRequest": {"Key": _typed(action.key._asdict())}}


def size_of(action: Action) -> int:
    """Return about how many bytes an action takes on its way."""
    if isinstance(action, Put):
        texts = (each for each in action.item.values() if isinstance(each, str))
        return sum(len(each.encode()) for each in texts) + 2_000
    return 500


def _typed(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(each) for name, each in item.items()}


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, str):
        return {"S": value}
    return {"L": [_value(each) for each in value]}


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _python(each) for name, each in item.items()}


def _python(value: Mapping[str, Any]) -> Any:
    [(kind, content)] = value.items()
    if kind == "N":
        return int(content)
    return [_python(each) for each in content] if kind == "L" else content


def _pauses() -> Iterator[float]:
    """Yield seconds to wait, longer and longer."""
    most = 0.02
    while True:
        yield random.uniform(most / 2, most)
        most = min(1.0, most * 2)


@contextmanager
def answering() -> Iterator[None]:
    """Tell of what keeps DynamoDB from answering.

    Raises:
        ReadStoreUnavailable: something did.
    """
    try:
        yield
    except NoCredentialsFound as error:
        raise ReadStoreUnavailable("there are no credentials for DynamoDB") from error
    except AIODynamoError as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise ReadStoreUnavailable(f"DynamoDB does not do it: {said}") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
        raise ReadStoreUnavailable(f"DynamoDB does not answer: {error}") from error
