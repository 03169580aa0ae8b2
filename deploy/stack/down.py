"""`rayfold down`: ends all parts of a stack, through its owner or in its place."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from deploy.errors import StartError, tell
from deploy.stack import identity as identities
from deploy.stack import ray_runtime, routing
from deploy.stack.governing import note_down
from deploy.stack.lease import LENGTH, Lease, OwnedByAnother
from deploy.stack.parts_left import end_parts
from deploy.stack.reaching import check_ray
from deploy.stack.release import wanted_release
from deploy.stack.roles import unless
from deploy.stack.routing import Routing
from deploy.stack.settings import Settings
from deploy.stack.starting import ANSWER_TIMEOUT
from rayfold.runtime.controller_rpc import ControllerClient, ControllerUnavailable
from rayfold.runtime.postgres import FAILURES, Connection, connected, why
from rayfold.runtime.rpc import Address
from rayfold.runtime.threads import in_thread
from rayfold.runtime.together import cancel

if TYPE_CHECKING:
    from asyncpg import Record

log = logging.getLogger(__name__)

ENDING = 120.0
"""Seconds within which all parts must end."""

SUCCESSION = 3 * LENGTH
"""Seconds within which a standby controller must answer after its owner died."""

WORD = 3.0
"""Seconds after which the user is told what is being waited for."""

_LOOK = 0.5
"""Seconds between two attempts."""


@contextmanager
def _waiting_for(what: str) -> Iterator[None]:
    """Print what is being waited for, if it takes long."""
    loop = asyncio.get_running_loop()
    word = loop.call_later(WORD, lambda: log.warning("still waiting", extra={"for": what}))
    try:
        yield
    finally:
        word.cancel()


async def down(settings: Settings) -> list[str]:
    """End all parts of a stack; return their names.

    Raises:
        StartError: there is no such stack, or its owner does not answer.
    """
    if settings.postgres is None:
        raise StartError("rayfold down needs --postgres: that database says what runs")
    try:
        async with connected(settings.postgres, within=ANSWER_TIMEOUT) as connection:
            return await _down(settings, settings.postgres, connection)
    except (*FAILURES, ValueError) as error:
        raise StartError(f"Postgres does not answer: {why(error)}: check --postgres") from error


async def _down(settings: Settings, postgres: str, connection: Connection) -> list[str]:
    row = await identities.read(connection)
    if row is None:
        raise StartError(
            f"no controller has ever run the stack {settings.stack!r} on this database:"
            " there is nothing to end"
        )
    identities.check(row, settings.stack, row["store"])
    lease = Lease(postgres, uuid4().hex, f"rayfold down on {socket.gethostname()}")
    until = time.monotonic() + SUCCESSION
    try:
        while (parts := await _by_its_owner(connection, until)) is None:
            # Several owners may have followed each other.
            row = await identities.read(connection) or row
            wanted = await wanted_release(connection)
            runs = row["domain"] if wanted is None or wanted.refused else wanted.hash
            try:
                await lease.take(runs)
            except OwnedByAnother:
                # A standby controller was faster; it can be asked, or has ended by now.
                if time.monotonic() > until or await _cannot_be_asked(connection):
                    raise
            else:
                return await _in_its_place(settings, postgres, row, lease)
        return parts
    finally:
        await lease.release()


async def _in_its_place(settings: Settings, postgres: str, row: Record, lease: Lease) -> list[str]:
    lost = asyncio.Event()
    holding = asyncio.create_task(lease.hold(lost.set))
    try:
        identity = {name: row[name] for name in ("store", "domain")} | {"stack": row["id"]}
        parts = await unless(lost, _end(settings, row["id"]))
        if parts is None:
            raise StartError("another process owns the stack now, and starts its parts: try again")
        await note_down(postgres, lease.epoch, identity)
        return parts
    finally:
        await cancel(holding)


async def _by_its_owner(connection: Connection, until: float) -> list[str] | None:
    """Let the owner end it; return None if there is no owner that can be asked.

    The lease of an owner that just died lasts until it expires or a successor takes it, which may
    not have published its address yet: this waits until then, by `time.monotonic`.

    Raises:
        StartError: a living owner does not end it.
    """
    with _waiting_for("the stack's owner, which is to end all parts"):
        return await _asked_of_its_owner(connection, until)


async def _asked_of_its_owner(connection: Connection, until: float) -> list[str] | None:
    while await identities.owned_now(connection, LENGTH):
        row, table = await identities.read(connection), await routing.read(connection)
        place = row["place"] if row is not None else "another one"
        error: ControllerUnavailable | None = None
        if (at := _controller(table)) is not None:
            try:
                return await _ask(at)
            except ControllerUnavailable as failed:
                error = failed
        elif _is_published(row, table):
            return None  # owned by an `up`: taking its lease shows whether it lives
        if time.monotonic() > until:
            if error is None:
                return None
            raise StartError(f"{place} owns the stack, and did not end it: {error}") from error
        await asyncio.sleep(_LOOK)
    return None


async def _cannot_be_asked(connection: Connection) -> bool:
    if not await identities.owned_now(connection, LENGTH):
        return False
    row, table = await identities.read(connection), await routing.read(connection)
    return _controller(table) is None and _is_published(row, table)


def _controller(table: Routing | None) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None if table is None else table.document.get("controller")
    return found


def _is_published(row: Record | None, table: Routing | None) -> bool:
    """Return whether the current owner has published a table, so whether it can be asked."""
    return row is not None and table is not None and table.epoch >= row["epoch"]


async def _ask(at: dict[str, str | int]) -> list[str]:
    address = Address(str(at["host"]), int(at["port"]), bytes.fromhex(str(at["key"])))
    client = ControllerClient(lambda: address)
    try:
        parts: list[str] = await client.call("controller.down", ENDING)
        return parts
    finally:
        client.close()


async def _end(settings: Settings, stack: str) -> list[str]:
    address = settings.ray_address
    if address is None:
        raise StartError("no controller runs: give --ray-address, to end the parts it left")
    late = asyncio.get_running_loop().call_later(ENDING, _give_up, address)
    try:
        with _waiting_for(f"Ray at {address}, which has what an owner left"):
            await in_thread(lambda: check_ray(address))
            try:
                await in_thread(lambda: ray_runtime.start(address, settings.stack))
                return await in_thread(lambda: end_parts(settings.stack, stack))
            finally:
                await in_thread(ray_runtime.stop)
    finally:
        late.cancel()


def _give_up(address: str) -> None:
    """End this process: a thread that waits for Ray can be neither cancelled nor abandoned.

    Nothing else is started; the lease expires.
    """
    tell(StartError(f"Ray at {address} does not answer within {ENDING:.0f} s: ask again"))
    os._exit(2)
