"""Orders as plain CRUD on Postgres, in expert style.

It uses a pool, prepared statements (asyncpg caches them), one transaction per write with the
order's row locked, an index for the join, and reads rows in one statement. `DATABASE_URL` is its
DSN.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from litestar import Litestar, Response, get, post
from litestar.datastructures import State
from litestar.exceptions import ClientException, NotFoundException

from loadtests.baselines.noop import (
    Address,
    NewCustomer,
    NewOrder,
    OrderLine,
    ShownCustomer,
    ShownOrder,
)

_TABLES = """
CREATE TABLE IF NOT EXISTS crud_order (
    id uuid PRIMARY KEY, customer_id text NOT NULL, status text NOT NULL DEFAULT 'open');
CREATE TABLE IF NOT EXISTS crud_line (
    id bigserial PRIMARY KEY, order_id uuid NOT NULL REFERENCES crud_order,
    sku text NOT NULL, quantity int NOT NULL, unit_price_cents int NOT NULL);
CREATE INDEX IF NOT EXISTS crud_line_of_order ON crud_line (order_id, id);
CREATE TABLE IF NOT EXISTS crud_customer (
    id uuid PRIMARY KEY, name text NOT NULL, email text NOT NULL);
CREATE TABLE IF NOT EXISTS crud_address (
    customer_id uuid NOT NULL REFERENCES crud_customer, label text NOT NULL, street text NOT NULL,
    postal_code text NOT NULL, city text NOT NULL, country text NOT NULL,
    PRIMARY KEY (customer_id, label));
"""


@asynccontextmanager
async def _pool(app: Litestar) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=10) as pool:
        await pool.execute(_TABLES)
        app.state.pool = pool
        yield


@post("/orders", status_code=202)
async def create(state: State, data: NewOrder) -> Response[None]:
    """Insert the order."""
    done = await state.pool.execute(
        "INSERT INTO crud_order VALUES ($1, $2) ON CONFLICT DO NOTHING",
        data.order_id,
        data.customer_id,
    )
    if done != "INSERT 0 1":
        raise ClientException("there is one already", status_code=409)
    return Response(None, status_code=202)


@post("/orders/{order_id:uuid}/lines", status_code=202)
async def add_line(state: State, order_id: uuid.UUID, data: OrderLine) -> Response[None]:
    """Lock the order, so that it is not placed meanwhile, and insert the line."""
    async with state.pool.acquire() as connection, connection.transaction():
        status = await connection.fetchval(
            "SELECT status FROM crud_order WHERE id = $1 FOR UPDATE", order_id
        )
        if status is None:
            raise NotFoundException
        if status != "open":
            raise ClientException("only an open order changes", status_code=409)
        await connection.execute(
            "INSERT INTO crud_line (order_id, sku, quantity, unit_price_cents)"
            " VALUES ($1, $2, $3, $4)",
            order_id,
            data.sku,
            data.quantity,
            data.unit_price_cents,
        )
    return Response(None, status_code=202)


@post("/customers", status_code=202)
async def register(state: State, data: NewCustomer) -> Response[None]:
    """Insert the customer."""
    done = await state.pool.execute(
        "INSERT INTO crud_customer VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        data.customer_id,
        data.name,
        data.email,
    )
    if done != "INSERT 0 1":
        raise ClientException("there is one already", status_code=409)
    return Response(None, status_code=202)


@get("/customers/{customer_id:uuid}")
async def customer(state: State, customer_id: uuid.UUID) -> ShownCustomer:
    """Read the customer with the addresses."""
    rows = await state.pool.fetch(
        "SELECT name, email, label, street, postal_code, city, country FROM crud_customer c"
        " LEFT JOIN crud_address a ON a.customer_id = c.id WHERE c.id = $1 ORDER BY label",
        customer_id,
    )
    if not rows:
        raise NotFoundException
    addresses = [Address(*row[2:]) for row in rows if row["label"] is not None]
    return ShownCustomer(customer_id, rows[0]["name"], rows[0]["email"], addresses)


@post("/customers/{customer_id:uuid}/addresses", status_code=202)
async def add_address(state: State, customer_id: uuid.UUID, data: Address) -> Response[None]:
    """Lock the customer, whose addresses are limited in number, and write one by its label."""
    async with state.pool.acquire() as connection, connection.transaction():
        known = await connection.fetchval(
            "SELECT true FROM crud_customer WHERE id = $1 FOR UPDATE", customer_id
        )
        if known is None:
            raise NotFoundException
        there = await connection.fetchval(
            "SELECT count(*) FROM crud_address WHERE customer_id = $1", customer_id
        )
        if there >= 50:
            raise ClientException("too many addresses", status_code=409)
        await connection.execute(
            "INSERT INTO crud_address VALUES ($1, $2, $3, $4, $5, $6)"
            " ON CONFLICT (customer_id, label) DO UPDATE SET street = excluded.street,"
            " postal_code = excluded.postal_code, city = excluded.city, country = excluded.country",
            customer_id,
            data.label,
            data.street,
            data.postal_code,
            data.city,
            data.country,
        )
    return Response(None, status_code=202)


@get("/orders/{order_id:uuid}")
async def show(state: State, order_id: uuid.UUID) -> ShownOrder:
    """Read the order with its lines."""
    rows = await state.pool.fetch(
        "SELECT customer_id, status, sku, quantity, unit_price_cents FROM crud_order o"
        " LEFT JOIN crud_line l ON l.order_id = o.id WHERE o.id = $1 ORDER BY l.id",
        order_id,
    )
    if not rows:
        raise NotFoundException
    lines = [OrderLine(*row[2:]) for row in rows if row["sku"] is not None]
    total = sum(line.quantity * line.unit_price_cents for line in lines)
    return ShownOrder(order_id, rows[0]["customer_id"], rows[0]["status"], lines, total)


app = Litestar(
    [create, add_line, register, add_address, customer, show],
    lifespan=[_pool],
    openapi_config=None,
    logging_config=None,
)
