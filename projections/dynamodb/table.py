"""A connection to one table of DynamoDB, with Python types; every read is consistent.

`aiodynamo` signs requests, finds credentials and retries throttled requests. Requests are written
in the form of the API, as no client's own interface covers all of it.
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
"""Seconds that connecting or a request may take."""

MADE = 120.0
"""Seconds for a new table to become available."""

TRANSACTION = 100
"""The most items in one transaction."""

TRANSACTION_BYTES = 3_500_000
"""Their most bytes: DynamoDB allows 4 MB, including the JSON encoding."""

_READ, _WRITTEN = 100, 25
"""The most items in one request."""

_ATTEMPTS = 8
"""Attempts at a request that was throttled, or conflicted with others on the same items."""

_NAME = re.compile(r"#\w+")

_PASSING = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}


class Check(NamedTuple):
    """A condition on an item: SQL-like, with values by `:name`; words are reserved as `#name`."""

    text: str
    values: Mapping[str, Any]


class Put(NamedTuple):
    """Replace an item."""

    key: Key
    item: Item
    check: Check | None = None


class Delete(NamedTuple):
    """Remove an item."""

    key: Key
    check: Check | None = None


class Update(NamedTuple):
    """Change some attributes; those that are None are removed."""

    key: Key
    changes: Mapping[str, Any]
    check: Check


class Unchanged(NamedTuple):
    """Only check that an item fulfils a condition."""

    key: Key
    check: Check


Action = Put | Delete | Update | Unchanged


class NotSo(Exception):
    """An item does not fulfil a condition, so nothing was written."""


class Table:
    """Connects with the first request; the table is created by `ensure`."""

    def __init__(self, url: str) -> None:
        """`url`: `dynamodb://REGION/TABLE`, with `?endpoint=http://…` if it is not AWS's own."""
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
        """Create the table if it is missing, with on-demand billing.

        Raises:
            ReadStoreUnavailable: DynamoDB does not answer, or we may not create it.
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
                        except (ResourceInUse, TableInUse):  # another process is creating it
                            await asyncio.sleep(0.5)

    async def get(self, keys: Sequence[Key]) -> list[Item | None]:
        """Return the items of these keys, None for missing ones.

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
        self,
        pk: str,
        limit: int,
        *,
        since: str = "",
        until: str = "",
        backwards: bool = False,
    ) -> tuple[list[Item], str | None]:
        """Return at most this many items of a partition key, by sort key, and where to continue.

        Their sort keys are from `since` to `until`, including both, or `backwards` from `until` to
        `since`. To continue, give what is returned as the one of them where it begins; backwards,
        the item with that key comes again.

        Raises:
            ReadStoreUnavailable: no answer.
        """
        condition, values = "pk = :pk", {":pk": pk}
        if since and until:
            condition = f"{condition} AND sk BETWEEN :a AND :b"
            values = {**values, ":a": since, ":b": until}
        elif since:
            condition, values = f"{condition} AND sk >= :a", {**values, ":a": since}
        elif until:
            condition, values = f"{condition} AND sk <= :b", {**values, ":b": until}
        with answering():
            asked = {"KeyConditionExpression": condition, "ConsistentRead": True, "Limit": limit}
            asked["ScanIndexForward"] = not backwards
            values_told = {"ExpressionAttributeValues": _typed(values)}
            answer = await self._ask("Query", {"TableName": self.name, **asked, **values_told})
        last = answer.get("LastEvaluatedKey")
        items: list[Item] = [_plain(each) for each in answer["Items"]]
        if last is None:
            return items, None
        return items, last["sk"]["S"] + ("" if backwards else "\x00")

    async def all(self, pk: str, begins: str = "") -> AsyncIterator[Item]:
        """Yield all items of a partition key whose sort keys have this prefix, by sort key.

        Raises:
            ReadStoreUnavailable: no answer.
        """
        # A page continues from a text, so a prefix is a range.
        until = f"{begins}\U0010ffff" if begins else ""
        since: str | None = begins
        while since is not None:
            items, since = await self.page(pk, 1000, since=since, until=until)
            for each in items:
                yield each

    async def transact(self, actions: Sequence[Action]) -> None:
        """Execute all actions atomically.

        Raises:
            NotSo: a condition does not hold.
            ReadStoreUnavailable: nothing was done, or the outcome is unknown.
        """
        told = [self._told(each) for each in actions]
        pause = _pauses()
        with answering():
            for attempt in range(_ATTEMPTS):
                if attempt:
                    await asyncio.sleep(next(pause))
                # With this token, a request that is repeated for lack of an answer is done once.
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
        """Change an item; return its new content.

        Raises:
            NotSo: the condition does not hold.
            ReadStoreUnavailable: nothing was done, or the outcome is unknown.
        """
        with answering():
            asked = self._told(update)["Update"] | {"ReturnValues": "ALL_NEW"}
            try:
                answer = await self._ask("UpdateItem", asked)
            except ConditionalCheckFailed as error:
                raise NotSo from error
        return _plain(answer["Attributes"])

    async def write(self, actions: Iterable[Put | Delete]) -> None:
        """Execute all actions in any order, not atomically.

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
    """Return the approximate size of an action in a request, in bytes."""
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
    """Yield increasing pauses in seconds."""
    most = 0.02
    while True:
        yield random.uniform(most / 2, most)
        most = min(1.0, most * 2)


@contextmanager
def answering() -> Iterator[None]:
    """Convert errors that keep DynamoDB from answering.

    Raises:
        ReadStoreUnavailable: one occurred.
    """
    try:
        yield
    except NoCredentialsFound as error:
        raise ReadStoreUnavailable("there are no credentials for DynamoDB") from error
    except AIODynamoError as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise ReadStoreUnavailable(f"DynamoDB reports an error: {said}") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
        raise ReadStoreUnavailable(f"DynamoDB does not answer: {error}") from error
