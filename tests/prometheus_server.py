"""A real Prometheus on loopback, from Debian's package, with our own alerts."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import ROOT
from tests.ports import free_port

DEADLINE = 60.0
"""Seconds for whatever is waited for."""

LONG = "RAYFOLD_OBSERVABILITY_LONG" in os.environ

RULES = ROOT / "deploy" / "observability" / "alerts.yaml"


class Prometheus:
    """Scrapes a gateway each second, and evaluates the alerts without their waits."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=10)

    def firing(self) -> set[tuple[str, str]]:
        """Return what fires: the alert, and its part."""
        data = self._ask("/api/v1/alerts")
        return {
            (each["labels"]["alertname"], each["labels"].get("part", ""))
            for each in data["alerts"]
            if each["state"] == "firing"
        }

    def until(self, alert: str, part: str, *, fires: bool = True) -> float:
        """Wait until an alert fires for a part whose name begins so; return the seconds."""
        began = time.monotonic()
        while any(name == alert and at.startswith(part) for name, at in self.firing()) is not fires:
            assert time.monotonic() - began < DEADLINE, (alert, part, self.firing())
            time.sleep(0.1)
        return time.monotonic() - began

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of a query."""
        found: list[dict[str, Any]] = self._ask("/api/v1/query", query=expression)["result"]
        return found

    def exemplars(self, expression: str) -> list[str]:
        """Return the traces that buckets name."""
        now = time.time()
        found = self._ask(
            "/api/v1/query_exemplars", query=expression, start=now - 600, end=now + 60
        )
        return [each["labels"]["trace_id"] for series in found for each in series["exemplars"]]

    def _ask(self, path: str, **parameters: Any) -> Any:
        answer = self._http.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]


@contextmanager
def prometheus(folder: Path, gateway_port: int) -> Iterator[Prometheus]:
    """Run one that scrapes a gateway of this machine."""
    rules = re.sub(r"for: \d+[ms]", "for: 0s", RULES.read_text())
    if not LONG:
        rules = rules.replace("(rayfold_lag_seconds) > 30", "(rayfold_lag_seconds) > 3")
    (folder / "alerts.yaml").write_text(rules)
    config = f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}}
rule_files: [alerts.yaml]
scrape_configs:
  - job_name: rayfold
    static_configs: [{{targets: ["127.0.0.1:{gateway_port}"]}}]
"""
    (folder / "prometheus.yml").write_text(config)
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        until_ready(url, process, folder / "prometheus.log")
        yield Prometheus(url)
    finally:
        process.terminate()
        process.wait(DEADLINE)


def until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until it answers, and has scraped once."""
    began = time.monotonic()
    while True:
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() - began < DEADLINE, log.read_text()[-2000:]
        try:
            answer = httpx.get(f"{url}/api/v1/query", params={"query": "rayfold_ready"})
            if answer.status_code == 200 and answer.json()["data"]["result"]:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
