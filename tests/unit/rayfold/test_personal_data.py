"""Personal data as an author sees it: plain values, a stand-in once they are forgotten."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any, NamedTuple, Never

import pytest
from pydantic import (
    computed_field,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)
from typing_extensions import TypeAliasType, TypedDict

from rayfold import (
    FORGOTTEN,
    Aggregate,
    Command,
    Complete,
    Decision,
    DomainError,
    Event,
    IntegrationEvent,
    Message,
    Personal,
    PersonalData,
    ProcessManager,
    Publication,
    Registry,
    View,
    on,
    starts,
)
from rayfold.personal import mistakes_of_personal, plain
from rayfold.testing import given, rows_of
from tests.personal.people import (
    ChangeEmail,
    Contacts,
    Customer,
    EmailChanged,
    Register,
    Registered,
)

ADA = Registered(customer_id="ada", email="ada@example.org", born=1815)


def test_rules_are_tested_with_plain_values() -> None:
    given(Customer, ADA).when(ChangeEmail(customer_id="ada", email="new@example.org")).then(
        EmailChanged(customer_id="ada", before="ada@example.org", email="new@example.org")
    )
    assert rows_of(Contacts, ADA)["ada"].email == "ada@example.org"


def test_views_fold_what_is_left_as_any_other_value() -> None:
    left = Registered(customer_id="ada", email=FORGOTTEN, born=None)
    assert rows_of(Contacts, left)["ada"] == Contacts(customer_id="ada", email=FORGOTTEN)


def test_a_value_is_marked_on_its_way_to_the_log_and_plain_when_it_is_read() -> None:
    registry = Registry.load("tests.personal")
    data = Registered.__rayfold__.encode(ADA)
    assert data == (
        b'{"customer_id":"ada","email":{"$personal":{"value":"ada@example.org"}},'
        b'"born":{"$personal":{"value":1815,"forgotten":null}}}'
    )
    assert registry.decode("Registered", data, 1, "customer-ada", 0) == [ADA]
    assert plain(data) == b'{"customer_id":"ada","email":"ada@example.org","born":1815}'


def test_the_subject_of_a_command_is_the_id_of_its_aggregate() -> None:
    Registry.load("tests.personal")
    command = Register(customer_id="ada", email="ada@example.org")
    data = Register.__rayfold__.encode(command)
    assert b'"of":"ada"' in data
    assert Register.__rayfold__.decode(data) == command


def test_personal_data_must_have_a_subject() -> None:
    class Letter(Event, name="Letter", subject="to"):
        to: str | None
        text: Personal[str]

    with pytest.raises(ValueError, match="does not say whose"):
        Letter.__rayfold__.encode(Letter(to=None, text="x"))
    with pytest.raises(ValueError, match="more than 1024 bytes"):
        Letter.__rayfold__.encode(Letter(to="x" * 1025, text="x"))


def test_a_message_without_personal_values_has_no_marks() -> None:
    data = Registered.__rayfold__.encode(Registered(customer_id="ada", email=FORGOTTEN))
    assert b"$personal" not in data


def test_encrypted_data_is_never_read_as_a_value() -> None:
    with pytest.raises(ValueError, match="does not decrypt"):
        plain(b'{"email":{"$personal":"00.AAAA"}}')


class Noted(Event, name="Noted"):
    note: str
    about: dict[str, str]


def test_a_client_cannot_send_a_value_that_looks_like_a_mark() -> None:
    assert Noted.__rayfold__.encode(Noted(note='"$personal"', about={"a": '{"$personal":1}'}))
    with pytest.raises(ValueError, match=r"\$personal"):
        Noted.__rayfold__.encode(Noted(note="", about={"$personal": "x"}))


def test_the_schema_says_which_fields_are_personal() -> None:
    fields = Registered.model_json_schema()["properties"]
    assert {name for name, field in fields.items() if field.get("x-personal")} == {"email", "born"}


class Greeted(Event, name="Greeted"):
    id: str
    email: Personal[str]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def domain(self) -> str:
        """What the model makes of it."""
        return self.email.partition("@")[2]


def test_computed_fields_of_personal_data_are_not_written() -> None:
    data = Greeted.__rayfold__.encode(Greeted(id="ada", email="a@secret.org"))
    assert data == b'{"id":"ada","email":{"$personal":{"value":"a@secret.org"}}}'


class Renamed(Event, name="Renamed"):
    id: str
    email: Personal[str]

    @model_serializer
    def _write(self) -> dict[str, str]:
        return {"id": self.id, "mail": self.email}

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        return {"id": data["id"], "email": data["mail"]} if "mail" in data else data


def test_personal_data_written_under_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="is not written under its name"):
        Renamed.__rayfold__.encode(Renamed(id="ada", email="a@secret.org"))


class Address(Message):
    zip_code: int = 0


def test_an_error_says_what_is_wrong_without_the_value() -> None:
    """The error is logged, parked, and recorded if a process fails."""
    for refuse in (
        lambda: Registered.model_validate({"customer_id": "ada", "email": {"a": "secret"}}),
        lambda: Registered.model_validate_json(b'{"customer_id":"ada","email":["secret"]}'),
        lambda: Address().replace(zip_code="secret"),
    ):
        with pytest.raises(ValueError, match=r"valid|integer") as raised:
            refuse()
        assert "secret" not in f"{raised.value} {raised.value!r}"


def mistakes_of(*members: type) -> str:
    module = ModuleType(f"{__name__}.made")
    for each in members:
        setattr(module, each.__name__, each)
        each.__module__ = module.__name__
    sys.modules[module.__name__] = module
    with pytest.raises(DomainError) as raised:
        Registry([module])
    return "\n".join(raised.value.mistakes)


class Home(Message):
    street: Personal[str]


class Do(Command, name="do"):
    id: Personal[str]


class Done(Event, name="Done", subject="nobody"):
    id: str
    when: Personal[int]
    inner: Home
    many: list[Personal[str]]
    other: Annotated[str, PersonalData(subject="when")] = ""


class Checked(Event, name="Checked"):
    id: str
    email: Personal[str]

    @field_validator("email")
    @classmethod
    def check(cls, value: str) -> str:
        if "@" not in value:
            raise ValueError("no address")
        return value


class Unsaid(Event, name="Unsaid", subject="id"):
    id: str


class State(Message):
    pass


class Doing(
    Aggregate[State, Do, Done | Unsaid | Checked], category="doing", id_field="id", initial=State()
):
    @staticmethod
    def decide(state: State, command: Do) -> list[Done]:
        return []

    @staticmethod
    def evolve(state: State, event: Done | Unsaid | Checked) -> State:
        return state


def test_each_mistake_has_a_sentence() -> None:
    told = mistakes_of(Doing)
    for sentence in (
        "Done.when is of 'nobody', which cannot say who somebody is",
        "Done.when accepts neither a text nor None, and has to be one of them once it is forgotten",
        "Done.other is of 'when', which cannot say who somebody is",
        "Done.inner has personal data within: make the whole field Personal[…]",
        "Done.many has personal data within: make the whole field Personal[…]",
        "Checked.email accepts neither a text nor None, and has to be one of them once",
        "Unsaid says whose its personal data is, but has no personal data",
    ):
        assert sentence in told


class Join(Command, name="join"):
    id: Personal[str]


class Joined(Event, name="Joined"):
    id: str
    nick: Personal[str]


class Joining(Aggregate[State, Join, Joined], category="joining", id_field="id", initial=State()):
    @staticmethod
    def decide(state: State, command: Join) -> list[Joined]:
        return []

    @staticmethod
    def evolve(state: State, event: Joined) -> State:
        return state


class ByNick(View, name="by-nick", key="nick"):
    nick: str

    @staticmethod
    @on(Joined)
    def add(row: ByNick, event: Joined) -> ByNick:
        return row


class SoundJoin(Command, name="sound-join"):
    id: str


class SoundJoining(
    Aggregate[State, SoundJoin, Joined], category="sound", id_field="id", initial=State()
):
    @staticmethod
    def decide(state: State, command: SoundJoin) -> list[Joined]:
        return []

    @staticmethod
    def evolve(state: State, event: Joined) -> State:
        return state


class NickTaken(Event, name="NickTaken"):
    nick: str


class Nick(Aggregate[State, Never, NickTaken], category="nick", id_field="nick", initial=State()):
    @staticmethod
    def evolve(state: State, event: NickTaken) -> State:
        return state


class TakeNick(Command, name="take-nick", subject="id"):
    id: str
    nick: Personal[str]


class TakingNick(Decision[TakeNick], reads={"who": SoundJoining, "nick": Nick}):
    @staticmethod
    def decide(states: Any, command: TakeNick) -> list[NickTaken]:
        return [NickTaken(nick=command.nick)]


class NickProcess(ProcessManager[State, Joined], name="nicks", key="nick", initial=State()):
    @staticmethod
    def evolve(state: State, happened: Any) -> State:
        return state

    @staticmethod
    @starts(Joined)
    def joined(state: State, event: Joined) -> list[Complete]:
        return [Complete()]


class NickTold(IntegrationEvent, name="nick-told", subject="id"):
    id: str
    nick: Personal[str]


class NickNews(Publication[NickTold], name="nick-news", key="nick"):
    @staticmethod
    @on(Joined)
    def joined(event: Joined) -> NickTold:
        return NickTold(id=event.id, nick=event.nick)


def test_the_id_of_an_aggregate_or_the_key_of_a_row_cannot_be_personal_data() -> None:
    told = mistakes_of(Joining, ByNick)
    assert "Join.id is an aggregate's id, and cannot be personal data" in told
    assert "ByNick has its rows by 'nick', which is personal data in Joined" in told


def test_the_key_of_a_process_or_a_publication_cannot_be_personal_data() -> None:
    told = mistakes_of(SoundJoining, Nick, TakingNick, NickProcess, NickTold, NickNews)
    assert "TakeNick.nick is the id of Nick, and cannot be personal data" in told
    assert "NickProcess has its processes by 'nick', which is personal data in Joined" in told
    assert "NickNews has its order by 'nick', which is personal data in NickTold" in told


class Told(IntegrationEvent, name="told"):
    nick: Personal[str]


class Row(View, name="row", key="id"):
    id: str
    nick: Personal[str] = ""

    @staticmethod
    @on(Joined)
    def add(row: Row, event: Joined) -> Row:
        return row


def test_personal_fields_in_a_view_are_refused_as_rows_are_not_encrypted() -> None:
    told = mistakes_of(SoundJoining, Row)
    assert "Row.nick is Personal, which makes no difference there" in told


def test_an_integration_event_says_whose_its_personal_data_is() -> None:
    [told] = Told.__rayfold__.mistakes()
    assert told == "Told.nick is personal data: say whose, with subject="


class InTypedDict(TypedDict):
    email: Personal[str]


@dataclass
class InDataclass:
    email: Personal[str]


class InNamedTuple(NamedTuple):
    email: Personal[str]


Alias = TypeAliasType("Alias", Personal[str])


@pytest.mark.parametrize("kind", [InTypedDict, InDataclass, InNamedTuple, Alias, list[InDataclass]])
def test_personal_data_in_a_place_that_is_not_encrypted_is_refused(kind: Any) -> None:
    hiding = create_model("Hiding", __base__=Message, inner=(kind, ...))
    assert any("has personal data within" in each for each in mistakes_of_personal(hiding, ""))
