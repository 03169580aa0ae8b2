"""`deploy/compose.yaml`: what `docker compose config` would check, and what it could not."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.container.compose_without_an_engine import MissingVariable, loaded, secret_names
from tests.documents import ROOT
from tests.unit.deploy.manifests import (
    EVERY_NODE,
    HEALTH_CHECK,
    check_command,
    check_ray_settings,
    check_ray_start,
    check_variables,
    ray_start_options,
)

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
SECRETS = secret_names()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """Return the file with all secrets given."""
    return loaded({name: f"secret-of-{name}" * 2 for name in SECRETS})


def test_the_file_is_valid_by_the_specification_of_compose() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(COMPOSE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_has_a_default(name: str) -> None:
    given = {each: "0123456789abcdef" for each in SECRETS if each != name}
    with pytest.raises(MissingVariable, match=name):
        loaded(given)


def test_every_variable_is_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    assert used == set(re.findall(r"^(?:# )?(\w+)=", (DEPLOY / "env.example").read_text(), re.M))


def test_names_that_are_used_are_declared(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for other, need in service.get("depends_on", {}).items():
            checked = services[other].get("healthcheck", {})
            assert need["condition"] == "service_healthy", f"{name} and {other}"
            assert checked.get("test"), f"{name} waits for {other}, which has no health check"
        for secret in service.get("secrets", []):
            assert secret in compose["secrets"]
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).is_file(), source
            else:
                assert source in compose["volumes"]


def test_it_has_the_parts_of_a_cluster(compose: dict[str, Any]) -> None:
    parts = {"eventstore", "postgres", "valkey", "ray-head", "ray-worker", "controller", "gateway"}
    assert set(compose["services"]) == parts | {"prometheus", "grafana"}
    assert compose["services"]["gateway"]["deploy"]["replicas"] == 2
    for name, service in compose["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert service["logging"]["driver"] == "local", f"{name}: the log is not rotated"
        assert service["image"].rpartition(":")[2] != service["image"], (
            f"{name}: the image has no version"
        )


def test_no_port_is_published_beyond_this_machine(compose: dict[str, Any]) -> None:
    published = {
        name: service["ports"]
        for name, service in compose["services"].items()
        if "ports" in service
    }
    assert set(published) == {"gateway", "prometheus", "grafana"}
    for ports in published.values():
        assert all(port.startswith("127.0.0.1:") for port in ports)


def test_commands_and_settings_exist_in_rayfold(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        env = service.get("environment", {})
        check_variables(env)
        if "join-ray" in service.get("entrypoint", []):
            check_command(service["command"])
            assert env["RAYFOLD_RAY_ADDRESS"] == "ray-head:6379"


def test_variables_of_opentelemetry_are_set_where_parts_are_started() -> None:
    given = {name: f"secret-of-{name}" * 2 for name in SECRETS}
    collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
    without, with_one = loaded(given), loaded(given | collector)
    for service in ("controller", "gateway"):
        env = with_one["services"][service]["environment"]
        assert {name: str(env[name]) for name in collector} == collector
        assert not any(
            value
            for name, value in without["services"][service]["environment"].items()
            if name.startswith("OTEL_")
        )


def test_ray_is_started_with_valid_options(compose: dict[str, Any]) -> None:
    options = ray_start_options()
    for name in ("ray-head", "ray-worker"):
        service = compose["services"][name]
        shell, flag, script = service["command"]
        assert (shell, flag) == ("sh", "-c")
        words = shlex.split(script)
        started = words[words.index("start") + 1 :]
        check_ray_start(started, options)
        assert ("--num-cpus=0" in started) == (name == "ray-head")
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
    joining = (DEPLOY / "container" / "join-ray").read_text().replace("\\\n", " ")
    [start] = re.findall(r"^ +ray start (.*) >&2 &$", joining, re.MULTILINE)
    check_ray_start(shlex.split(start), options)


def test_a_silent_node_is_detected_and_a_missing_head_is_waited_for(
    compose: dict[str, Any],
) -> None:
    services = compose["services"]
    check_ray_settings(services["ray-head"]["environment"], HEALTH_CHECK)
    for name in ("ray-worker", "controller", "gateway"):
        check_ray_settings(services[name]["environment"], EVERY_NODE)


def test_the_script_that_joins_ray_is_shell(tmp_path: Path) -> None:
    script = DEPLOY / "container" / "join-ray"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)
    done = subprocess.run([str(script)], env={}, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "RAYFOLD_RAY_ADDRESS" in done.stderr


def test_prometheus_scrapes_every_gateway_with_an_operators_token(compose: dict[str, Any]) -> None:
    [job] = yaml.safe_load((DEPLOY / "observability/prometheus.yaml").read_text())["scrape_configs"]
    [secret] = compose["services"]["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert compose["secrets"][secret] == {"environment": "OPERATOR_TOKEN"}
    [discovery] = job["dns_sd_configs"]
    assert discovery["names"] == ["gateway"]
    assert str(discovery["port"]) in compose["services"]["gateway"]["command"]
