"""A DynamoDB for tests: that of `moto`, in a process of its own.

It has the transactions, conditions, limits and orders of the published API. One request at a time,
as `moto` locks nothing; what it has is gone with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}

REGION = "eu-central-1"


class DynamoServer:
    """On a port of its own; `url` leads to a table in it that nobody has made yet."""

    def __init__(self, table: str = "views") -> None:
        self._table = table
        self._process: subprocess.Popen[bytes] | None = None
        self.endpoint = ""

    @property
    def url(self) -> str:
        """As a stack's settings have it."""
        return f"dynamodb://{REGION}/{self._table}?endpoint={self.endpoint}"

    def __enter__(self) -> DynamoServer:
        os.environ.update(CREDENTIALS)
        command = [sys.executable, str(Path(__file__)), "serve"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.endpoint = self._process.stdout.readline().decode().strip()
        assert self.endpoint, "moto's server did not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def serve() -> None:
    """Serve until killed; print where."""
    import logging
    from concurrent.futures import ThreadPoolExecutor

    from moto.moto_server.werkzeug_app import create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    _undo_by_item()
    _query_a_partition()
    _answer_plainly()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    # First come, first served: whoever waits for a lock may wait for ever on a busy machine.
    app, one = create_backend_app("dynamodb"), ThreadPoolExecutor(max_workers=1)

    def in_turn(environ: Any, respond: Any) -> list[bytes]:
        return one.submit(lambda: list(app(environ, respond))).result()

    server = make_server("127.0.0.1", 0, in_turn, threaded=True)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def _undo_by_item() -> None:
    """Let a transaction that fails be undone item by item.

    `moto` copies whole tables beforehand, once for each item: seconds for a hundred of them.
    """
    import copy
    from types import SimpleNamespace

    from moto.dynamodb import models
    from moto.dynamodb.models.dynamo_type import DynamoType
    from moto.dynamodb.models.table import Table

    backend = models.DynamoDBBackend
    transact = backend.transact_write_items

    def deepcopy(value: Any) -> Any:
        return value if isinstance(value, Table) else copy.deepcopy(value)

    def transact_write_items(self: Any, transact_items: list[dict[str, Any]]) -> None:
        before = []
        for each in transact_items:
            [told] = each.values()
            table, key = self.get_table(told["TableName"]), told.get("Item") or told["Key"]
            pk, sk = DynamoType(key["pk"]), DynamoType(key["sk"])
            item = table.items.get(pk, {}).get(sk)
            if item is not None:
                item, attributes = copy.copy(item), item.attrs
                item.attrs = copy.copy(attributes)
            before.append((table, pk, sk, item))
        try:
            transact(self, transact_items)
        except BaseException:
            for table, pk, sk, item in before:
                if item is not None:
                    table.items[pk][sk] = item
                else:
                    table.items.get(pk, {}).pop(sk, None)
            raise

    models.copy = SimpleNamespace(deepcopy=deepcopy)
    backend.transact_write_items = transact_write_items


def _query_a_partition() -> None:
    """Let a query look at the items of its own hash key: `moto` sorts the whole table each time."""
    import copy

    from moto.dynamodb.models.table import Table

    query = Table.query

    def query_a_partition(self: Any, hash_key: Any, *rest: Any, **more: Any) -> Any:
        table = copy.copy(self)
        table.items = {hash_key: self.items.get(hash_key, {})}
        return query(table, hash_key, *rest, **more)

    Table.query = query_a_partition


def _answer_plainly() -> None:
    """Let answers be written as they are: `moto` looks for each value under any of its names."""
    import json

    from moto.core.responses import ActionResult

    whole = ActionResult.execute_result

    def execute_result(self: Any, context: Any) -> Any:
        if isinstance(self.result, Exception):
            return whole(self, context)
        headers = {"Content-Type": "application/x-amz-json-1.0"}
        return 200, headers, json.dumps(self.result, default=str)

    ActionResult.execute_result = execute_result


if __name__ == "__main__":
    serve()
