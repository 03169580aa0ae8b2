"""A stack on three hosts with addresses of their own, asked from outside."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from tests.hosts.cluster import cluster


def test_a_stack_spans_three_hosts(tmp_path: Path) -> None:
    with cluster(tmp_path) as hosts:
        up = hosts.up(hosts.hosts[1])
        with hosts.client(hosts.hosts[1]) as http:
            order = {"order_id": str(uuid4()), "customer_id": "ada"}
            answer = http.post("/orders", json=order)
            assert answer.status_code == 202, answer.text
            token = {"Consistency-Token": answer.headers["consistency-token"]}
            for store in ("memory", "postgres"):
                headers = {**token, "Rayfold-Store": store}
                answer = http.get(f"/orders/{order['order_id']}", headers=headers)
                assert answer.json()["customer_id"] == "ada", answer.text
            assert http.get("/operators/verify").json() == {"differences": []}
        assert up.stop() == 0
