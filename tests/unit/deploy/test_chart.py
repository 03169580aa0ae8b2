"""The chart of `deploy/kubernetes/`, rendered by helm and checked by the schemas of Kubernetes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy.stack.nodes import CLAIMS
from tests.documents import ROOT, blocks_of
from tests.unit.deploy.helm import helm
from tests.unit.deploy.manifests import (
    EVERY_NODE,
    HEALTH_CHECK,
    check_command,
    check_ray_settings,
    check_ray_start,
    check_variables,
    ray_start_options,
)

CHART = ROOT / "deploy" / "kubernetes"
RAY_CLUSTER = json.loads(Path(__file__).with_name("raycluster.schema.json").read_text())

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]

LEAST = {"existingSecret": "shop", "ray": {"redis": {"address": "redis:6379"}}}
TOKENS = {
    "web": {"token": "0123456789abcdef-w", "role": "writer"},
    "ops": {"token": "0123456789abcdef-o", "role": "operator"},
}
PLACE = {"nodeSelector": {"pool": "rayfold"}, "tolerations": [{"operator": "Exists"}]}
MOST = {
    "image": {"repository": "registry.example/shop", "tag": "7", "pullSecrets": [{"name": "pull"}]},
    "stack": "shop",
    "domain": "shop",
    "settings": {"write_hosts": 4, "autoscale": {"memory": [2, 4]}, "postgres_reads": ["a", "b"]},
    "otel": {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "OTEL_TRACES_SAMPLER_ARG": 0.01,
        "OTEL_SDK_DISABLED": False,
    },
    "credentials": {
        "eventstore": "kurrentdb://a:b@n1:2113,n2:2113,n3:2113?tls=true",
        "postgres": "postgresql://a:b@db:5432/shop",
        "redis": "rediss://a:b@redis:6379/0",
        "otlpHeaders": "authorization=Bearer%20secret",
        "tokens": TOKENS,
        "operatorToken": "0123456789abcdef-o",
    },
    "masterKeysSecret": "masters",
    "ray": {
        "auth": {"secretName": "ray"},
        "redis": {"address": "rediss://redis:6379", "passwordSecret": {"name": "redis"}},
        "head": PLACE,
        "workers": {"replicas": 5, **PLACE},
    },
    "controller": {"replicas": 1, **PLACE},
    "gateway": {
        **PLACE,
        "autoscaling": {"enabled": False},
        "replicas": 3,
        "hosts": ["shop.example"],
        "service": {"type": "LoadBalancer", "annotations": {"a/b": "c"}},
    },
    "networkPolicy": {
        "clients": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}],
    },
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return helm."""
    return helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def run(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return what runs helm on the chart with values; it is given no cluster and no network."""
    home = tmp_path_factory.mktemp("home")

    def run(command: str, values: Manifest, *more: str) -> subprocess.CompletedProcess[str]:
        file = home / "values.json"
        file.write_text(json.dumps(values))
        words = [str(program), command, *more, str(CHART), "--values", str(file)]
        env = {"HOME": str(home), "PATH": os.environ["PATH"]}
        return subprocess.run(words, env=env, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="module")
def render(run: Callable[..., Any]) -> Render:
    """Return what renders the chart."""

    def render(values: Manifest = LEAST, release: str = "shop") -> list[Manifest]:
        done = run("template", values, release)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.safe_load_all(done.stdout) if each]

    return render


@pytest.fixture(scope="module")
def least(render: Render) -> list[Manifest]:
    """Return the manifests with what has to be given, and nothing else."""
    return render()


@pytest.fixture(scope="module")
def most(render: Render) -> list[Manifest]:
    """Return the manifests with every value given."""
    return render(MOST)


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """Return the manifests of a kind."""
    return [each for each in manifests if each["kind"] == kind]


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the pod template of each component."""
    controlled = [*of_kind(manifests, "Deployment"), *of_kind(manifests, "Job")]
    found = [each["spec"]["template"] for each in controlled]
    for cluster in of_kind(manifests, "RayCluster"):
        kinds = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
        found += [group["template"] for group in kinds]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in found}


def serving(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the pod template of each component that goes on until it is told to end."""
    return {name: pod for name, pod in pods(manifests).items() if name != "upgrade"}


def container(pod: Manifest) -> Manifest:
    """Return the only container of a pod."""
    [only] = pod["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def environment(pod: Manifest) -> dict[str, str]:
    """Return the variables that have a value of their own."""
    return {each["name"]: each["value"] for each in container(pod)["env"] if "value" in each}


def selected(selector: dict[str, str], pod: Manifest) -> bool:
    """Return whether a selector is one of the pod."""
    labels = pod["metadata"]["labels"].items()
    return selector.items() <= labels


def test_helm_accepts_the_chart(run: Callable[..., Any]) -> None:
    done = run("lint", MOST, "--strict")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("values", [LEAST, MOST], ids=["least", "most"])
@pytest.mark.parametrize("release", ["1.28", kubernetes_validate.latest_version()])
def test_manifests_are_valid_by_the_schemas_of_kubernetes(
    render: Render, values: Manifest, release: str
) -> None:
    kinds = set()
    for manifest in render(values):
        kinds.add(manifest["kind"])
        if manifest["kind"] == "RayCluster":
            jsonschema.validate(manifest, RAY_CLUSTER)
        else:
            kubernetes_validate.validate(manifest, release, strict=True)
    for component, pod in pods(render(values)).items():
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": component}}
        kubernetes_validate.validate(whole | {"spec": pod["spec"]}, release, strict=True)
    always = {"RayCluster", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    assert kinds - {"Secret", "HorizontalPodAutoscaler"} == always | {"Job"}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"gateways": {}}, "gateways"),
        ({"gateway": {"replicas": "two"}}, "replicas"),
        ({"existingSecret": "a"}, "ray.redis.address"),
        ({"ray": {"redis": {"address": "redis:6379"}}}, "credentials.eventstore"),
        ({"ray": {"redis": {"address": "redis"}}}, "address"),
        ({"ray": {"rpcPorts": {"first": 10002, "last": 20000}}}, "first"),
        ({"settings": {"stack": "other"}}, "stack"),
        ({"settings": {"redis": "redis://a:b@redis"}}, "redis"),
        ({"credentials": {"redis": "embedded"}}, "redis"),
        ({"otel": {"RAYFOLD_TOKEN": "a"}}, "RAYFOLD_TOKEN"),
        ({"otel": {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret"}}, "_HEADERS"),
        ({"otel": {"OTEL_EXPORTER_OTLP_ENDPOINT": {}}}, "otel"),
        ({"credentials": {"otlpHeaders": "secret"}}, "otlpHeaders"),
        ({"credentials": {"tokens": {"a": {"token": "short", "role": "writer"}}}}, "token"),
        ({"ray": {"workers": {"terminationGracePeriodSeconds": 5}}}, "terminationGracePeriod"),
        ({"ray": {"workers": {"objectStore": "1G"}}}, "objectStore"),
        ({"ray": {"healthCheck": {"periodMs": 0}}}, "periodMs"),
    ],
)
def test_a_mistake_in_the_values_is_reported(
    run: Callable[..., Any], values: Manifest, told: str
) -> None:
    done = run("template", values, "shop")
    assert done.returncode != 0
    assert told in done.stderr


def test_the_values_in_the_documentation_are_accepted(render: Render) -> None:
    page = ROOT / "docs" / "how-to" / "deploy-on-kubernetes.md"
    [values] = [block.source for block in blocks_of(page) if block.language == "yaml"]
    manifests = render(yaml.safe_load(values))
    [cluster] = of_kind(manifests, "RayCluster")
    assert cluster["metadata"]["name"] == "shop-rayfold", (
        "the name must be that in the documentation"
    )
    gateways = {each["metadata"]["name"] for each in of_kind(manifests, "Deployment")}
    assert "shop-rayfold-gateway" in gateways
    asked = {
        each["valueFrom"]["secretKeyRef"]["key"]
        for each in container(pods(manifests)["gateway"])["env"]
        if "valueFrom" in each and "optional" not in each["valueFrom"]["secretKeyRef"]
    }
    given = set(re.findall(r"--from-literal=([\w-]+)=", page.read_text()))
    assert asked - {"auth_token"} == given - {"password"}


def test_names_fit_however_long_the_release_is(render: Render) -> None:
    for release in ("rayfold", "a" * 53):
        for manifest in render(LEAST, release):
            assert len(manifest["metadata"]["name"]) <= 63 - len("-head-svc"), release
    assert of_kind(render(LEAST, "rayfold"), "RayCluster")[0]["metadata"]["name"] == "rayfold"


def test_every_selector_matches_its_pods_and_no_others(most: list[Manifest]) -> None:
    templates = pods(most)
    assert set(templates) == {"ray-head", "ray-worker", "controller", "gateway", "upgrade"}
    for manifest in most:
        spec = manifest.get("spec", {})
        name = manifest["metadata"]["name"]
        selector = spec["podSelector"] if "podSelector" in spec else spec.get("selector")
        if selector is None:
            continue
        labels = selector.get("matchLabels", selector)
        found = {component for component, pod in templates.items() if selected(labels, pod)}
        expected = {labels.get("app.kubernetes.io/component")} - {None} or set(templates)
        assert found == expected, f"{manifest['kind']} {name}"
    for pod in templates.values():
        for constraint in pod["spec"].get("topologySpreadConstraints", []):
            assert selected(constraint["labelSelector"]["matchLabels"], pod)


def test_ray_is_started_with_valid_options_and_the_head_offers_no_cpu(
    least: list[Manifest],
) -> None:
    [cluster] = of_kind(least, "RayCluster")
    spec = cluster["spec"]
    head, groups = spec["headGroupSpec"], spec["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert not any("num-cpus" in group["rayStartParams"] for group in groups)
    for group in (head, *groups):
        words = [f"--{name}={value}" for name, value in group["rayStartParams"].items()]
        check_ray_start(words, ray_start_options())
    assert spec["rayVersion"] == version("ray"), "ray.version must be the version in the lock file"
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["gcsFaultToleranceOptions"] == {"redisAddress": "redis:6379"}


def test_a_silent_node_is_detected_and_a_missing_head_is_waited_for(
    least: list[Manifest],
) -> None:
    templates = pods(least)
    check_ray_settings(environment(templates.pop("ray-head")), HEALTH_CHECK)
    for pod in templates.values():
        check_ray_settings(environment(pod), EVERY_NODE)


@pytest.mark.parametrize(("size", "memory"), [("1Gi", 2**30), ("1536Mi", 1536 * 2**20)])
def test_the_object_store_fits_the_shared_memory(render: Render, size: str, memory: int) -> None:
    ray = LEAST["ray"] | {"workers": {"objectStore": size}}  # type: ignore[operator]
    [cluster] = of_kind(render(LEAST | {"ray": ray}), "RayCluster")
    workers = cluster["spec"]["workerGroupSpecs"][0]
    assert workers["rayStartParams"]["object-store-memory"] == str(memory * 9 // 10)
    volumes = {each["name"]: each for each in workers["template"]["spec"]["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": size}


def groups(manifests: list[Manifest]) -> dict[str, tuple[str, int, str]]:
    """Return image, number of pods and custom resource of each group of workers."""
    [cluster] = of_kind(manifests, "RayCluster")
    found = {}
    for group in cluster["spec"]["workerGroupSpecs"]:
        [word] = shlex.split(group["rayStartParams"]["resources"])  # as a shell has it
        [resource] = json.loads(word)
        image = container(group["template"])["image"]
        found[group["groupName"]] = image, group["replicas"], resource
    return found


def test_another_image_starts_in_the_other_group_while_the_old_one_runs(render: Render) -> None:
    def rendered(tag: str, group: str, leaving: str = "") -> list[Manifest]:
        workers = {"replicas": 3, "group": group, "leaving": leaving}
        ray = LEAST["ray"] | {"workers": workers}  # type: ignore[operator]
        return render(LEAST | {"image": {"tag": tag}, "ray": ray})

    for manifests, blue, green, runs in (
        (rendered("1", "blue"), ("rayfold:1", 3), 0, "blue"),
        (rendered("2", "green", "1"), ("rayfold:1", 3), ("rayfold:2", 3), "green"),
        (rendered("2", "green"), 0, ("rayfold:2", 3), "green"),
    ):
        found = groups(manifests)
        assert {name: resource for name, (_, _, resource) in found.items()} == {
            "blue": "blue",
            "green": "green",
        }
        for name, expected in (("blue", blue), ("green", green)):
            image, number, _ = found[name]
            assert number == 0 if expected == 0 else (image, number) == expected
        for component in ("controller", "gateway", "upgrade"):
            pod = pods(manifests)[component]
            assert container(pod)["image"] == found[runs][0]
            claims = json.loads(environment(pod)["RAYFOLD_CLAIMS"])
            assert claims == {kind: {runs: 0.001} for kind in CLAIMS}


def test_a_given_redis_for_views_is_in_the_secret(
    least: list[Manifest], most: list[Manifest]
) -> None:
    [secret] = of_kind(most, "Secret")
    assert secret["stringData"]["redis"] == "rediss://a:b@redis:6379/0"
    for component in ("controller", "gateway"):
        env = {each["name"]: each for each in container(pods(least)[component])["env"]}
        source = env["RAYFOLD_REDIS"]["valueFrom"]["secretKeyRef"]
        assert source == {"name": "shop", "key": "redis", "optional": True}


def test_variables_of_opentelemetry_are_set_where_parts_are_started(
    least: list[Manifest], most: list[Manifest]
) -> None:
    [secret] = of_kind(most, "Secret")
    assert secret["stringData"]["otlp-headers"] == "authorization=Bearer%20secret"
    for component in ("controller", "gateway"):
        env = environment(pods(most)[component])
        assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"
        assert env["OTEL_TRACES_SAMPLER_ARG"] == "0.01"
        assert env["OTEL_SDK_DISABLED"] == "false"
        asked = {each["name"]: each for each in container(pods(least)[component])["env"]}
        assert {name for name in asked if name.startswith("OTEL_")} == {
            "OTEL_EXPORTER_OTLP_HEADERS"
        }
        source = asked["OTEL_EXPORTER_OTLP_HEADERS"]["valueFrom"]["secretKeyRef"]
        assert source == {"name": "shop", "key": "otlp-headers", "optional": True}


def test_claims_of_the_settings_are_kept(render: Render) -> None:
    settings = {"claims": {"write": {"CPU": 0.5}}}
    pod = pods(render(LEAST | {"settings": settings}))["controller"]
    claims = json.loads(environment(pod)["RAYFOLD_CLAIMS"])
    assert claims["write"] == {"CPU": 0.5, "blue": 0.001}


def test_the_new_image_requests_the_upgrade_before_any_pod_changes(
    least: list[Manifest],
) -> None:
    [job] = of_kind(least, "Job")
    hooks = job["metadata"]["annotations"]["helm.sh/hook"].split(",")
    assert set(hooks) == {"pre-upgrade", "pre-rollback"}
    pod = pods(least)["upgrade"]
    assert container(pod)["command"][-1] == "rayfold"
    check_command(container(pod)["args"])
    assert environment(pod) == environment(pods(least)["controller"])


def test_one_pod_of_each_kind_may_be_evicted_at_a_time(least: list[Manifest]) -> None:
    budgets = {
        each["metadata"]["name"]: each["spec"] for each in of_kind(least, "PodDisruptionBudget")
    }
    for kind in ("controller", "gateway"):
        assert budgets[f"shop-rayfold-{kind}"]["maxUnavailable"] == 1
    # Kubernetes counts those that may go by a subresource `scale`, which a RayCluster has not.
    workers = budgets["shop-rayfold-ray-worker"]
    assert "maxUnavailable" not in workers
    assert workers["minAvailable"] == 2
    assert all(each["unhealthyPodEvictionPolicy"] == "AlwaysAllow" for each in budgets.values())


def test_secrets_are_read_from_the_named_secret(
    least: list[Manifest], most: list[Manifest]
) -> None:
    for manifests, ours, rays in ((least, "shop", "shop-rayfold"), (most, None, "ray")):
        made = {
            each["metadata"]["name"]: each["stringData"] for each in of_kind(manifests, "Secret")
        }
        for component in ("controller", "gateway"):
            asked = {
                each["name"]: each["valueFrom"]["secretKeyRef"]
                for each in container(pods(manifests)[component])["env"]
                if "valueFrom" in each
            }
            assert asked.pop("RAY_AUTH_TOKEN") == {"name": rays, "key": "auth_token"}
            for variable, reference in asked.items():
                if ours:
                    assert reference["name"] == ours
                else:
                    check_variables({variable: made[reference["name"]][reference["key"]]})


def test_master_keys_are_mounted_where_keys_of_persons_are_used(
    least: list[Manifest], most: list[Manifest]
) -> None:
    for component, pod in pods(most).items():
        only, spec = container(pod), pod["spec"]
        place = next(m["mountPath"] for m in only["volumeMounts"] if m["name"] == "master-keys")
        [volume] = [each for each in spec["volumes"] if each["name"] == "master-keys"]
        assert volume["secret"]["secretName"] == "masters"
        if component != "ray-head":  # which runs no parts
            assert environment(pod)["RAYFOLD_MASTER_KEYS"] == f"{place}/master-keys"
    assert all("RAYFOLD_MASTER_KEYS" not in environment(pod) for pod in pods(least).values())


def test_commands_and_settings_exist_in_rayfold(most: list[Manifest]) -> None:
    for component in ("controller", "gateway"):
        pod = pods(most)[component]
        only = container(pod)
        assert only["command"] == ["/usr/bin/tini", "--", "join-ray"]
        check_command(only["args"])
        env = environment(pod)
        check_variables(env)
        assert env["RAYFOLD_STACK"] == env["RAYFOLD_DOMAIN"] == "shop"
        assert json.loads(env["RAYFOLD_AUTOSCALE"]) == {"memory": [2, 4]}
        assert env["RAYFOLD_WRITE_HOSTS"] == "4"
    assert environment(pods(most)["gateway"])["RAYFOLD_HOSTS"] == '["shop.example"]'


def ranges(policy: Manifest) -> list[range]:
    """Return the ports that a NetworkPolicy lets in."""
    [rule] = policy["spec"]["ingress"]
    ports = rule["ports"]
    return [range(each["port"], each.get("endPort", each["port"]) + 1) for each in ports]


def test_the_network_policy_allows_what_the_parts_need_and_no_more(most: list[Manifest]) -> None:
    policies = {each["metadata"]["name"]: each for each in of_kind(most, "NetworkPolicy")}
    parts, gateway = policies["shop-rayfold-parts"], policies["shop-rayfold-gateway"]
    let = {port for each in ranges(parts) for port in each}
    [cluster] = of_kind(most, "RayCluster")
    params = cluster["spec"]["workerGroupSpecs"][0]["rayStartParams"]
    fixed = {int(value) for name, value in params.items() if name.endswith("-port")}
    assert fixed | {6379} <= let
    [given] = {environment(pod)["RAYFOLD_RPC_PORTS"] for pod in pods(most).values()}
    first, last = given.split("-")
    assert {int(first), int(last)} <= let
    workers = range(int(params["min-worker-port"]), int(params["max-worker-port"]) + 1)
    assert not {int(first), int(last)} & set(workers), (
        "ports of Ray must not overlap with those of hosts"
    )
    assert set(workers) <= let
    assert 8000 not in let
    [peer] = parts["spec"]["ingress"][0]["from"]
    assert all(selected(peer["podSelector"]["matchLabels"], pod) for pod in pods(most).values())
    assert ranges(gateway) == [range(8000, 8001)]
    assert gateway["spec"]["ingress"][0]["from"] == MOST["networkPolicy"]["clients"]


def test_what_joins_ray_uses_the_ports_that_the_policy_knows(most: list[Manifest]) -> None:
    joining = (ROOT / "deploy" / "container" / "join-ray").read_text()
    [cluster] = of_kind(most, "RayCluster")
    for name, value in cluster["spec"]["workerGroupSpecs"][0]["rayStartParams"].items():
        if name.endswith("-port"):
            assert f"--{name}={value} " in joining.replace("\\\n", " ")


def test_pods_have_time_to_stop_before_they_are_ended(least: list[Manifest]) -> None:
    for component, pod in serving(least).items():
        only, spec = container(pod), pod["spec"]
        grace = spec["terminationGracePeriodSeconds"]
        assert grace > 30, component
        if component in ("gateway", "ray-worker"):
            [*_, shell] = only["lifecycle"]["preStop"]["exec"]["command"]
            assert int(re.findall(r"\d+", shell)[0]) + 30 < grace


def test_probes_use_existing_ports_and_paths(least: list[Manifest]) -> None:
    routes = (ROOT / "api" / "operators" / "health.py").read_text()
    probed = set()
    for component, pod in serving(least).items():
        only = container(pod)
        names = {each["name"] for each in only.get("ports", [])}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if (probe := only.get(kind)) is None:
                assert (component, kind) == ("controller", "readinessProbe")
                continue
            if "httpGet" in probe:
                assert f'"{probe["httpGet"]["path"]}"' in routes
                probed.add((kind, probe["httpGet"]["path"]))
            port = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port", 6379)
            assert port in names | {6379, 6380}
    assert ("readinessProbe", "/health/ready") in probed
    assert ("livenessProbe", "/health/live") in probed


def test_pods_have_no_more_rights_than_they_need(least: list[Manifest]) -> None:
    for pod in pods(least).values():
        security = container(pod)["securityContext"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["automountServiceAccountToken"] is False
        # A release named rayfold has a service of that name: `RAYFOLD_PORT` would be its URL.
        assert pod["spec"]["enableServiceLinks"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}


def test_gateways_are_scaled_either_by_load_or_by_number(
    least: list[Manifest], most: list[Manifest]
) -> None:
    def deployment(manifests: list[Manifest]) -> Manifest:
        found = {each["metadata"]["name"]: each for each in of_kind(manifests, "Deployment")}
        return found["shop-rayfold-gateway"]

    [scaler] = of_kind(least, "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment(least)["metadata"]["name"]
    assert "replicas" not in deployment(least)["spec"]
    assert container(pods(least)["gateway"])["resources"]["requests"]["cpu"] == "1"
    assert of_kind(most, "HorizontalPodAutoscaler") == []
    assert deployment(most)["spec"]["replicas"] == 3
