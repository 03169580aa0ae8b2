"""A long body is read as a short one, but reading stops at its first mistakes."""

from __future__ import annotations

import json
import warnings
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BeforeValidator, Field, ValidationError, create_model, model_validator
from pydantic_core import SchemaValidator

from api.commands.long_bodies import LONG, validator_of_long
from api.commands.unknown_names import check_of
from rayfold import Message, Registry
from tests.generated.field_types import field_types
from tests.unit.api.conftest import Gateway
from tests.unit.api.problems import problem

warnings.filterwarnings("ignore", message=".*shadows an attribute.*")


def read(validator: SchemaValidator, text: str) -> Any:
    try:
        return validator.validate_json(text, strict=True)
    except Exception as error:  # also what a validator of an author's raises
        return type(error)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_long_body_is_read_the_same_as_a_short_one(data: st.DataObject) -> None:
    kind = data.draw(field_types)
    model = create_model("Put", __base__=Message, content=(kind.annotation, ...))
    text = model(content=data.draw(kind.values)).model_dump_json()
    own, long = model.__pydantic_validator__, validator_of_long(model)
    assert read(long, text) == read(own, text)
    wrong = text.replace("1", "x")
    told, wanted = read(long, wrong), read(own, wrong)
    # It may be given up before it comes to a validator of an author's that breaks.
    assert told == wanted or (isinstance(wanted, type) and told is ValidationError)
    assert check_of(model)(json.loads(text)) is None


@pytest.mark.parametrize("field", ["type", "metadata", "default", "fields", "cls"])
def test_a_field_may_have_the_name_of_a_schema_keyword(field: str) -> None:
    model = create_model("Put", __base__=Message, **{field: (list[int], ...)})  # type: ignore[call-overload]
    long = validator_of_long(model)
    assert read(long, f'{{"{field}": [1, 2]}}') == model(**{field: [1, 2]})
    with pytest.raises(ValidationError) as wrong:
        long.validate_json(f'{{"{field}": ["x", "y", "z"]}}', strict=True)
    assert wrong.value.error_count() == 1


class Pair(tuple[int, int], Enum):
    FIRST = (1, 2)


def test_members_of_an_enumeration_are_not_taken_for_a_schema() -> None:
    model = create_model("Put", __base__=Message, pair=(Pair, Pair.FIRST))
    assert read(validator_of_long(model), "{}") == model()


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("breaks", [{}] * LONG),
        ("breaks", [{"first": 1, "last": 2, "more": 3}] * LONG),
        ("holidays", ["never"] * LONG),
        ("by_name", {f"k{n}": "never" for n in range(LONG)}),
        ("rates", {f"k{n}": ["x"] * 9 for n in range(LONG)}),
    ],
)
async def test_of_a_collection_with_many_errors_only_a_few_are_listed(
    field: str, wrong: Any
) -> None:
    made = Gateway(Registry.load("tests.unit.api.exact"))
    async with made.http:
        reply = await made.http.post("/contracts", json={"contract": "a", field: wrong})
        document = problem(reply, 422, "invalid-fields")
        assert 1 <= len(document["errors"]) <= 3
        assert " of " not in document["detail"]
        part = wrong[:9] if isinstance(wrong, list) else dict(list(wrong.items())[:9])
        reply = await made.http.post("/contracts", json={"contract": "a", field: part})
        assert len(problem(reply, 422, "invalid-fields")["errors"]) >= 9


STRANGERS = dict.fromkeys(["", *(f"name-{n}" for n in range(LONG))], 0)


class Leaf(Message):
    kind: Literal["leaf"] = "leaf"


class Branch(Message):
    kind: Literal["branch"] = "branch"
    within: tuple[Branch | Leaf, ...] = ()
    first: tuple[int, Leaf] | None = None
    by_name: dict[str, Leaf] | None = None
    told: Annotated[Branch | Leaf, Field(discriminator="kind")] | None = None


@pytest.mark.parametrize(
    "fields",
    [
        STRANGERS,
        {"within": [{}, STRANGERS]},
        {"first": [1, STRANGERS]},
        {"by_name": {"a": {}, "b": STRANGERS}},
        {"told": {"kind": "branch", "told": {"kind": "leaf"} | STRANGERS}},
    ],
)
def test_unknown_names_are_counted_wherever_they_are(fields: dict[str, Any]) -> None:
    assert check_of(Branch)(fields) == "name-9999"
    assert check_of(Branch)({"by_name": {name: {} for name in STRANGERS}}) is None


class Flat(Message):
    within: dict[str, int]

    @model_validator(mode="before")
    @classmethod
    def gathered(cls, fields: Any) -> Any:
        return fields if "within" in fields else {"within": fields}


class Wrapped(Message):
    flat: Annotated[Leaf, BeforeValidator(lambda fields: {})]


@pytest.mark.parametrize(("model", "fields"), [(Flat, STRANGERS), (Wrapped, {"flat": STRANGERS})])
def test_names_that_an_author_s_function_takes_are_not_unknown(
    model: type[Message], fields: dict[str, Any]
) -> None:
    assert isinstance(read(validator_of_long(model), json.dumps(fields)), model)
    assert check_of(model)(fields) is None


async def test_of_very_many_unknown_names_one_is_listed() -> None:
    made = Gateway(Registry.load("tests.unit.api.exact"))
    async with made.http:
        reply = await made.http.post("/contracts", json={"contract": "a"} | STRANGERS)
        [error] = problem(reply, 422, "invalid-fields")["errors"]
        assert error["field"] == "name-9999"
        few = dict(list(STRANGERS.items())[:5]) | {"contract": "a" * LONG}
        reply = await made.http.post("/contracts", json=few)
        assert len(problem(reply, 422, "invalid-fields")["errors"]) == 5
