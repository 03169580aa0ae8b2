"""Dashboards and alerts ask for metrics that there are, and each alert fires when it should."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from api.operators import metrics
from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "observability"
ALERTS = FOLDER / "alerts.yaml"
NAME = re.compile(r"\brayfold_[a-z_]+")
DASHBOARDS = sorted((FOLDER / "grafana").glob("*.json"))


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    return found


def queries(path: Path) -> Iterator[str]:
    """Yield the queries of a dashboard."""
    for panel in json.loads(path.read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def known() -> set[str]:
    """Return the names of all series that a gateway may tell."""
    counted = metrics.Metrics()
    counted.accepted("c")
    counted.asked("q")
    counted.replied("GET", "/", 200, 0.1)
    part = {"part": "p", "node": "n", "ready": True, **dict.fromkeys(metrics._GAUGES, 1)}
    lines = counted.text([part]).splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def test_alerts_and_dashboards_use_metrics_that_gateways_have() -> None:
    asked = [rule["expr"] for rule in rules()]
    asked += [expr for path in DASHBOARDS for expr in queries(path)]
    named = {name for expr in asked for name in NAME.findall(expr)}
    assert len(named) > 10
    assert named - known() == set()


def test_every_metric_is_on_a_dashboard_and_uses_the_provisioned_source() -> None:
    shown = {name for path in DASHBOARDS for expr in queries(path) for name in NAME.findall(expr)}
    # Where a part runs is told with it; sums and counts go with the buckets.
    aside = {"rayfold_part_node", "rayfold_http_seconds_sum", "rayfold_http_seconds_count"}
    assert known() - aside - shown == set()
    provisioned = yaml.safe_load((FOLDER / "grafana" / "datasource.yaml").read_text())
    [source] = provisioned["datasources"]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            assert panel["datasource"]["uid"] == source["uid"]


def promtool(*arguments: str) -> str:
    """Run `promtool`, which `make servers` installs; return what it said."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_alert_fires_when_it_should_and_not_before() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(ALERTS))
    assert "SUCCESS" in promtool("test", "rules", str(FOLDER / "alerts.test.yaml"))


def test_every_alert_is_tested_to_fire_and_not_to_fire() -> None:
    tests = yaml.safe_load((FOLDER / "alerts.test.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for rule in rules():
        mine = [case for case in cases if case["alertname"] == rule["alert"]]
        assert {bool(case["exp_alerts"]) for case in mine} == {True, False}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "warn")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_a_wrong_alert_would_be_found(tmp_path: Path) -> None:
    wrong = ALERTS.read_text().replace(
        'rayfold_ready{part="postgres"}) == 0', "rayfold_ready) == 2"
    )
    (tmp_path / "alerts.yaml").write_text(wrong)
    (tmp_path / "test.yaml").write_text((FOLDER / "alerts.test.yaml").read_text())
    with pytest.raises(AssertionError, match="RayfoldPostgresDown"):
        promtool("test", "rules", str(tmp_path / "test.yaml"))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_queries_of_dashboards_are_valid_promql(path: Path, tmp_path: Path) -> None:
    recorded = [
        {"record": f"panel:{at}", "expr": expr.replace("$__rate_interval", "1m")}
        for at, expr in enumerate(queries(path))
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))
    assert f"{len(recorded)} rules found" in promtool("check", "rules", str(file))


def lost(told: Any, read: Any, where: str = "") -> Iterator[str]:
    """Yield what was not understood as it is written; what was not given has defaults."""
    if isinstance(told, dict) and isinstance(read, dict):
        for name, value in told.items():
            yield from lost(value, read.get(name), f"{where}.{name}")
    elif isinstance(told, list) and isinstance(read, list) and len(told) == len(read):
        for at, (one, other) in enumerate(zip(told, read, strict=True)):
            yield from lost(one, other, f"{where}[{at}]")
    elif told != read:
        yield where


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_has_only_fields_that_grafana_knows(path: Path) -> None:
    told = json.loads(path.read_text())
    read = dashboard.Dashboard.from_json(told)
    assert list(lost(told, json.loads(JSONEncoder().encode(read)))) == []
    places = [panel["gridPos"] for panel in told["panels"]]
    cells = [
        (x, y)
        for at in places
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in told["panels"]}) == len(told["panels"])


def test_prometheus_in_compose_has_the_alerts() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    [rule_file] = config["rule_files"]
    mounted = [each.split(":")[:2] for each in compose["services"]["prometheus"]["volumes"]]
    assert ["./observability/alerts.yaml", f"/etc/prometheus/{rule_file}"] in mounted
