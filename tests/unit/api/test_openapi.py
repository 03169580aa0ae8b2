"""The OpenAPI document, and the page that shows it."""

from __future__ import annotations

import gzip
import re
from decimal import Decimal
from importlib.resources import files
from types import ModuleType
from typing import Any

import pytest
from msgspec import convert
from pydantic import Field
from pydantic.json_schema import models_json_schema

from api.openapi.bodies import RebuildStatus
from api.openapi.document import openapi
from api.openapi.schemas import ByName
from projections.operations.rebuild import Rebuild
from rayfold import Aggregate, Command, Event, Message, Query, Registry, Route, View, on
from tests.unit.api.conftest import Gateway
from tests.unit.api.fakes import ORDER_ID

PUBLIC = {"checkLive", "checkReady", "checkParts"}


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for item in document["paths"].values() for each in item.values()]


def _references(value: Any) -> set[str]:
    return set(re.findall(r"'#/components/schemas/([^']+)'", repr(value)))


async def test_the_schema_describes_every_route(gateway: Gateway, registry: Registry) -> None:
    document = (await gateway.http.get("/schema")).json()
    for route in registry.routes:
        operation = document["paths"][route.path][route.method.lower()]
        answer = operation["responses"]["200" if route.method == "GET" else "202"]
        assert answer["content"]["application/json"]["schema"]
    body = document["paths"]["/orders/{order_id}/lines"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/AddLineBody"
    }
    schema = document["components"]["schemas"]["AddLineBody"]
    assert set(schema["properties"]) == {"sku", "quantity", "unit_price_cents"}
    assert schema["properties"]["quantity"]["minimum"] == 1
    assert _references(document) <= set(document["components"]["schemas"])


async def test_every_path_of_the_schema_is_there(gateway: Gateway) -> None:
    document = (await gateway.http.get("/schema")).json()
    for path, operations in document["paths"].items():
        if path.endswith("/live"):
            continue  # would go on for ever
        for method in operations:
            url = path.format(
                order_id=ORDER_ID,
                customer_id=ORDER_ID,
                label="home",
                purpose="news",
                sku="nut",
                day="2026-01-01",
                command_id=ORDER_ID,
                stream=f"order-{ORDER_ID}",
                revision=1,
                name="fulfilment",
                key=ORDER_ID,
            )
            reply = await gateway.http.request(method, url)
            assert reply.status_code != 405, path
            assert "there is nothing at this path" not in reply.text, path


async def test_an_unknown_parameter_is_refused_with_a_documented_status(gateway: Gateway) -> None:
    document = (await gateway.http.get("/schema")).json()
    tried = 0
    for path, operations in document["paths"].items():
        operation = operations.get("get", {})
        places = {each["in"] for each in operation.get("parameters", ())}
        if "query" not in places or "path" in places:
            continue
        reply = await gateway.http.get(path, params={"no-such": "1"})
        assert str(reply.status_code) in operation["responses"], (path, reply.text)
        tried += 1
    assert tried > 5


def test_the_schema_has_all_fields_of_a_rebuild() -> None:
    rebuild = Rebuild("orders", ["memory"])
    convert(rebuild.status(), RebuildStatus)
    rebuild.begin("memory", 5)
    rebuild.over("there is no room")
    told = rebuild.status()
    convert(told, RebuildStatus)
    assert told.keys() == {*RebuildStatus.__struct_fields__}


@pytest.mark.parametrize("package", ["domain", "examples.shop"])
def test_every_operation_has_a_name_a_tag_and_its_problems(package: str) -> None:
    document = openapi(Registry.load(package))
    operations = _operations(document)
    names = [each["operationId"] for each in operations]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z][A-Za-z0-9]*", name) for name in names)
    tags = {tag["name"] for tag in document["tags"]}
    for operation in operations:
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        problem = operation["responses"]["400"]["content"]
        assert problem == {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        }
    assert document["servers"] == [{"url": "/", "description": "This gateway"}]


@pytest.mark.parametrize(
    ("secured", "security"), [(False, [{}, {"bearer": []}]), (True, [{"bearer": []}])]
)
def test_if_there_are_tokens_a_bearer_token_is_required(
    registry: Registry, secured: bool, security: list[Any]
) -> None:
    document = openapi(registry, secured=secured)
    assert document["security"] == security
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    public = {each["operationId"] for each in _operations(document) if each.get("security") == [{}]}
    assert public == PUBLIC


def test_a_stream_of_events_is_not_described_as_json(registry: Registry) -> None:
    live = openapi(registry)["paths"]["/orders/{order_id}/live"]["get"]
    assert live["operationId"] == "watchOrder"
    [(media_type, described)] = live["responses"]["200"]["content"].items()
    assert media_type == "text/event-stream"
    assert "type" not in described["schema"]
    event = described["schema"]["x-itemSchema"]["properties"]
    assert set(event) == {"id", "data"}
    assert _references(event) == {"OrderDetails"}


def test_each_representation_has_a_schema_of_its_own(registry: Registry) -> None:
    document = openapi(registry)
    content = document["paths"]["/orders/{order_id}"]["get"]["responses"]["200"]["content"]
    names = {name: each["schema"]["$ref"].rsplit("/")[-1] for name, each in content.items()}
    assert names == {
        "application/json": "OrderDetails",
        "application/vnd.rayfold.minimal+json": "OrderEntriesMinimal",
    }
    schemas = document["components"]["schemas"]
    assert "revision" in schemas["OrderDetails"]["required"]
    assert "revision" not in schemas["OrderEntriesMinimal"]["properties"]


@pytest.mark.parametrize(
    ("package", "path", "told"),
    [
        ("domain", "/orders", "A page of rows: in the order in which they were created"),
        ("domain", "/orders/{order_id}", "The answer"),
        ("tests.unit.api.guarded", "/refunds", "A page of rows: the newest first"),
    ],
)
def test_the_order_of_the_rows_of_a_page_is_described(package: str, path: str, told: str) -> None:
    answer = openapi(Registry.load(package))["paths"][path]["get"]["responses"]["200"]
    assert answer["description"] == told


def test_values_supplied_by_the_server_are_not_fields_of_a_body(registry: Registry) -> None:
    create = openapi(registry)["components"]["schemas"]["CreateOrder"]
    assert "at" not in create["properties"]
    assert create["required"] == ["customer_id"]


def test_every_command_and_query_is_described_by_its_name_too(registry: Registry) -> None:
    paths = openapi(registry)["paths"]
    assert {f"/commands/{name}" for name in registry.commands} <= set(paths)
    assert {f"/queries/{name}" for name in registry.queries} <= set(paths)


def test_answers_of_sql_and_composed_queries_are_described() -> None:
    document = openapi(Registry.load("examples.shop"))
    answer = document["paths"]["/bestsellers/{day}"]["get"]["responses"]["200"]
    assert _references(answer) == {"SellerRows"}
    schemas = document["components"]["schemas"]
    assert set(schemas["SellerRows"]["properties"]) == {"items", "more"}
    assert {"Seller", "BasketAndDemand"} <= _references(document) <= set(schemas)


class Price(Message):
    """Read as text or a number, written as text."""

    amount: Decimal


class Place(Message):
    hall: int = 1


class Put(Command, name="put", creates=True):
    thing_id: str
    place: Place = Place()
    seat: Place | None = Place()
    row: int = 1
    labels: dict[str, str] = Field({})


def test_a_default_that_is_a_model_is_left_out() -> None:
    """Otherwise `openapi-python-client` leaves out the command, and each path with it."""
    _, described = models_json_schema([(Put, "validation")], schema_generator=ByName)
    fields = described["$defs"]["Put"]["properties"]
    assert "default" in fields["row"]
    assert fields["labels"]["default"] == {}
    assert not {"default"} & (fields["place"].keys() | fields["seat"].keys())


def test_a_domain_may_use_names_that_the_gateway_uses() -> None:
    module = ModuleType("factory")

    class Opened(Event, name="Opened"):
        part_id: str

    class Open(Command, name="scale", creates=True):
        part_id: str
        price: Price | None = None

    class Nothing(Message):
        pass

    class Factory(
        Aggregate[Nothing, Open, Opened], category="part", id_field="part_id", initial=Nothing()
    ):
        @staticmethod
        def decide(state: Nothing, command: Open) -> list[Opened]:
            return [Opened(part_id=command.part_id)]

        @staticmethod
        def evolve(state: Nothing, event: Opened) -> Nothing:
            return state

    class Part(View, name="parts", key="part_id"):
        part_id: str
        price: Price | None = None

        @staticmethod
        @on(Opened)
        def opened(part: Part, event: Opened) -> Part:
            return part

    class GetPart(Query, name="get-part", view=Part):
        part_id: str

    routes = [Route("GET", "/parts/{part_id}", GetPart), Route("POST", "/parts", Open)]
    for member in (Factory, Part, GetPart):
        member.__module__ = "factory"
        setattr(module, member.__name__, member)
    module.ROUTES = routes  # type: ignore[attr-defined]
    document = openapi(Registry([module]))
    schemas = document["components"]["schemas"]
    assert set(schemas["DomainPart"]["properties"]) == {"part_id", "price", "revision"}
    assert "ready" in schemas["Part"]["properties"]
    answer = document["paths"]["/parts/{part_id}"]["get"]["responses"]["200"]
    assert _references(answer) == {"DomainPart"}
    names = [each["operationId"] for each in _operations(document)]
    assert {"scale", "scale2"} <= set(names)
    # Of two schemas with one title `openapi-python-client` leaves out the second, and its answers.
    titles = [each["title"] for each in schemas.values() if "title" in each]
    assert len(titles) == len(set(titles))
    assert {"Price-Input", "Price-Output"} <= set(titles)


def test_the_script_of_the_page_is_the_version_that_its_note_names() -> None:
    folder = files("api.openapi").joinpath("page")
    script = gzip.decompress(folder.joinpath("scalar.js.gz").read_bytes()).decode()
    [version] = re.findall(r"@scalar/api-reference ([0-9.]+)\n", script[:1000])
    note = folder.joinpath("scalar.LICENSE").read_text()
    assert f"@scalar/api-reference {version}" in note
    assert "MIT License" in note


def test_a_command_can_be_sent_later_and_is_then_answered_with_what_is_known_of_it(
    registry: Registry,
) -> None:
    place = openapi(registry)["paths"]["/orders/{order_id}/place"]["post"]
    [later] = [each for each in place["parameters"] if each["name"] == "Rayfold-Not-Before"]
    assert later["schema"]["format"] == "instant"
    assert not later.get("required")
    schema = place["responses"]["202"]["content"]["application/json"]["schema"]
    assert _references(schema) == {"Receipt", "CommandStatus"}
