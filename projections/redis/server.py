"""A connection to one Redis or Valkey, and running scripts there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from projections.errors import ReadStoreUnavailable
from projections.redis.scripts import ALL, Script

TIMEOUT = 10.0
"""Seconds that an answer or connecting may take."""

CONNECTIONS = 16
"""The most connections of one client: a request waits until one is free."""

Answer = TypeVar("Answer")

Call = tuple[Script, Sequence[str], Sequence[Any]]
"""A script, its keys and its arguments."""


class Server:
    """Connects with the first request. A request is never repeated automatically."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Redis | None = None

    @property
    def client(self) -> Any:
        """Return the client, with a pool of connections; its answers are bytes.

        Raises:
            ReadStoreUnavailable: the URL is invalid.
        """
        if self._client is None:
            try:
                pool = BlockingConnectionPool.from_url(
                    self._url,
                    # The library's other pool raises an error instead of waiting.
                    max_connections=CONNECTIONS,
                    timeout=TIMEOUT,
                    # The client's own timeout loses a cancellation that arrives during a write
                    # (Python 3.11's `wait_for` does): see `ask`.
                    socket_timeout=None,
                    socket_connect_timeout=TIMEOUT,
                    retry=Retry(NoBackoff(), 0),
                )
                self._client = Redis.from_pool(pool)
            except ValueError as error:
                raise ReadStoreUnavailable(f"not the URL of a Redis server: {error}") from error
        return self._client

    async def ask(self, answer: Awaitable[Answer]) -> Answer:
        """Return an answer of the client, or raise `TimeoutError`, or what the client raises."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await answer
        except TimeoutError as error:
            raise TimeoutError(f"no answer in {TIMEOUT:g} s") from error
        except RuntimeError as error:  # raised by uvloop for an idle connection that was reset
            raise ConnectionError(str(error)) from error

    async def check(self) -> None:
        """Check that the server can keep rows.

        Raises:
            ReadStoreUnavailable: it does not answer, or evicts rows when it is full.
        """
        with answering():
            memory = await self.ask(self.client.info("memory"))
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        if policy.startswith("allkeys"):
            raise ReadStoreUnavailable(
                f"Redis evicts rows ({policy}), and views must be whole: set maxmemory-policy"
                " noeviction"
            )

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
        """Run a script; return its result.

        Raises:
            ReadStoreUnavailable: it did not run, or that is unknown.
        """
        with answering():
            [result] = await self.run_all([(script, keys, arguments)])
        return result

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip; return their results. Other requests may come in between.

        Raises:
            RedisError, OSError: one of them did not run, or that is unknown.
        """
        results = await self.run_each(calls)
        for each in results:
            if isinstance(each, Exception):
                raise each
        return results

    async def run_each(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip; return each result, or its error.

        Raises:
            RedisError, OSError: there is no connection, or it was lost.
        """
        results = await self._evaluate(calls)
        unknown = [at for at, each in enumerate(results) if isinstance(each, NoScriptError)]
        if unknown:  # the server has restarted, or is another one
            await self._load()
            again = await self._evaluate([calls[at] for at in unknown])
            for at, result in zip(unknown, again, strict=True):
                results[at] = result
        return results

    async def _evaluate(self, calls: Sequence[Call]) -> list[Any]:
        if len(calls) == 1:
            [(script, keys, arguments)] = calls
            try:
                asked = self.client.evalsha(script.digest, len(keys), *keys, *arguments)
                return [await self.ask(asked)]
            except ResponseError as error:
                return [error]
        async with self.client.pipeline(transaction=False) as pipeline:
            for script, keys, arguments in calls:
                pipeline.evalsha(script.digest, len(keys), *keys, *arguments)
            return await self.ask(pipeline.execute(raise_on_error=False))

    async def _load(self) -> None:
        async with self.client.pipeline(transaction=False) as pipeline:
            for script in ALL:
                pipeline.script_load(script.text)
            await self.ask(pipeline.execute())

    async def with_hash(
        self, key: str, calls: Sequence[Call]
    ) -> tuple[dict[bytes, bytes], list[Any]]:
        """Return a whole hash, and the results of scripts, with nothing in between.

        Raises:
            ReadStoreUnavailable: the server does not answer.
        """
        with answering():
            await self._load()
            async with self.client.pipeline(transaction=True) as pipeline:
                pipeline.hgetall(key)
                for script, keys, arguments in calls:
                    pipeline.evalsha(script.digest, len(keys), *keys, *arguments)
                found, *results = await self.ask(pipeline.execute())
        return found, results

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()


@contextmanager
def answering() -> Iterator[None]:
    """Convert errors that keep Redis from answering.

    Raises:
        ReadStoreUnavailable: one occurred.
    """
    try:
        yield
    except ResponseError as error:
        raise ReadStoreUnavailable(f"Redis reports an error: {error}") from error
    except (RedisError, OSError, TimeoutError) as error:
        raise ReadStoreUnavailable(f"Redis does not answer: {error}") from error
