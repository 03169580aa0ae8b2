"""A command is read by the gateway and by its writer: both read the same, or it fails."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated

import pytest
from pydantic import AfterValidator, field_serializer

from actors.errors import DecisionFailed
from actors.local import LocalRuntime
from api.commands.decoder import CommandDecoder
from rayfold import Aggregate, Command, Event, Message, Registry, View, on
from rayfold.testing import rows_of


class Pay(Command, name="pay", creates=True):
    """Both change the amount whenever it is read; once is what their author thinks of."""

    till: str
    cents: Annotated[int, AfterValidator(lambda euros: euros * 100)] = 0
    note: Annotated[str, AfterValidator(str.strip)] = ""


class Hide(Command, name="hide", creates=True):
    till: str
    code: str

    @field_serializer("code")
    def masked(self, code: str) -> str:
        return "***"


class Paid(Event, name="Paid"):
    till: str
    note: str


class TillState(Message):
    pass


class Till(
    Aggregate[TillState, Pay | Hide, Paid], category="till", id_field="till", initial=TillState()
):
    @staticmethod
    def decide(state: TillState, command: Pay | Hide) -> Iterable[Paid]:
        note = command.note if isinstance(command, Pay) else command.code
        return [Paid(till=command.till, note=note)]

    @staticmethod
    def evolve(state: TillState, event: Paid) -> TillState:
        return state


class Doubled(View, name="doubled", key="till"):
    till: str
    note: Annotated[str, AfterValidator(lambda note: note + note)] = ""

    @staticmethod
    @on(Paid)
    def paid(row: Doubled, event: Paid) -> Doubled:
        return Doubled(till=row.till, note=event.note)


REGISTRY = Registry([sys.modules[__name__]])


@pytest.mark.parametrize(
    ("name", "body"),
    [("pay", b'{"till": "a", "cents": 5}'), ("hide", b'{"till": "a", "code": "1234"}')],
)
async def test_a_command_that_its_writer_would_read_differently_fails(
    name: str, body: bytes
) -> None:
    definition = REGISTRY.commands[name]
    with pytest.raises(
        DecisionFailed, match=rf"{name} failed: \w+\.\w+ does not come back from JSON"
    ):
        CommandDecoder(REGISTRY, definition).envelope({}, body, {}, "")
    with pytest.raises(
        DecisionFailed, match=rf"{name} failed: \w+\.\w+ does not come back from JSON"
    ):
        await LocalRuntime(REGISTRY).send(definition.model.model_validate_json(body))


def test_a_row_that_a_store_would_read_differently_fails() -> None:
    with pytest.raises(ValueError, match="'note' does not come back as it was"):
        rows_of(Doubled, Paid(till="a", note="x"))
    assert rows_of(Doubled, Paid(till="a", note=""))["a"].note == ""


async def test_a_validator_that_changes_nothing_the_second_time_is_accepted() -> None:
    body = b'{"till": "a", "note": " thanks "}'
    envelope = CommandDecoder(REGISTRY, REGISTRY.commands["pay"]).envelope({}, body, {}, "")
    assert b'"note":"thanks"' in envelope.payload
    await LocalRuntime(REGISTRY).send(Pay(till="a", note=" thanks "))
