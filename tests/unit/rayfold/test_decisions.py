"""What may be declared as a decision over several aggregates, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from types import ModuleType, new_class
from typing import Any, Never

import pytest
from pydantic import Field

from rayfold import (
    Aggregate,
    Command,
    Decision,
    DomainError,
    Event,
    Message,
    Read,
    ReadMany,
    Registry,
    Route,
)
from rayfold.decision import MAX_READS, unfit


class State(Message):
    pass


class Grow(Command, name="grow"):
    tree_id: str


class Grown(Event, name="Grown"):
    tree_id: str
    nest_id: str = ""


class Built(Event, name="Built"):
    nest_id: str


class Nest2(Command, name="nest"):
    tree_id: str
    nest_id: str
    also: list[str] = Field(default_factory=list)
    some: list[str | None] = Field(default_factory=list)


class Tree(Aggregate[State, Grow, Grown], category="tree", id_field="tree_id", initial=State()):
    @staticmethod
    def decide(state: State, command: Grow) -> list[Grown]:
        return []

    @staticmethod
    def evolve(state: State, event: Grown) -> State:
        return state


class Nest(Aggregate[State, Never, Built], category="nest", id_field="nest_id", initial=State()):
    @staticmethod
    def evolve(state: State, event: Built) -> State:
        return state


class Grow2(Command, name="grow-2"):
    tree_id: str


def decide(states: Any, command: Any) -> list[Event]:
    return []


def registry(*members: Any) -> Registry:
    made = ModuleType(__name__)
    for number, each in enumerate(members):
        setattr(made, f"member_{number}", each)
    return Registry([made])


def mistakes(*members: Any) -> tuple[str, ...]:
    with pytest.raises(DomainError) as caught:
        registry(*members)
    return caught.value.mistakes


def decision(reads: Any, commands: Any = Nest2) -> type[Decision[Any]]:
    """Return a decision called `Nesting`; without a `decide` if it has no commands."""
    base = Decision if commands is None else Decision[commands]
    body = {"__module__": __name__} | ({"decide": staticmethod(decide)} if commands else {})
    return new_class("Nesting", (base,), {"reads": reads}, lambda space: space.update(body))


def test_the_command_of_a_decision_belongs_to_the_leading_aggregate() -> None:
    made = decision({"tree": Tree, "nest": Nest})
    known = registry(Tree, Nest, made)
    assert known.owner[Nest2] is Tree
    assert known.commands["nest"].model is Nest2
    assert known.decisions[Nest2].model is made
    assert known.decided_together == {Tree, Nest}
    instances = known.decisions[Nest2].instances(Nest2(tree_id="oak", nest_id="owl"))
    assert [each.stream for each in instances] == ["tree-oak", "nest-owl"]


def test_the_instance_to_read_is_given_by_a_field_or_a_function() -> None:
    made = decision({"a": Read(Tree, by="nest_id"), "b": Read(Tree, by=lambda c: f"x:{c.tree_id}")})
    instances = registry(Tree, made).decisions[Nest2].instances(Nest2(tree_id="1", nest_id="2"))
    assert [each.stream for each in instances] == ["tree-2", "tree-x:1"]


@pytest.mark.parametrize(
    ("reads", "sentence"),
    [
        ({}, 'Nesting needs reads={"…": Aggregate}, the aggregates that it reads'),
        (7, 'Nesting needs reads={"…": Aggregate}, the aggregates that it reads'),
        ({"tree": Grow}, "Nesting reads <class "),
        ({"tree": 7}, "Nesting reads 7 as 'tree', which is not an aggregate"),
        ({"a tree": Tree}, "Nesting: what it reads is called by a name, not 'a tree'"),
        ({7: Tree}, "Nesting: what it reads is called by a name, not 7"),
        (
            {"tree": Read(Tree, by="oak")},
            "Nesting reads Tree as 'tree' by 'oak', which is not a field of Nest2: say Read(",
        ),
        (
            {"tree": Read(Tree, by="also")},
            "Nest2.also cannot be an id: not a scalar, write ReadMany",
        ),
        (
            {"tree": Tree, "trees": ReadMany(Tree, by="nest_id")},
            "Nest2.nest_id cannot be ids: not a list of scalars",
        ),
        (
            {"tree": Tree, "trees": ReadMany(Tree, by="some")},
            "Nest2.some may hold None, but an id always has a value: remove None",
        ),
        (
            {"tree": Tree, "trees": ReadMany(Tree, by="oaks")},
            "Nesting reads Tree as 'trees' by 'oaks', which is not a field of Nest2: say ReadMany(",
        ),
        (
            {"trees": ReadMany(Tree, by="also"), "tree": Tree},
            "Nesting reads many as 'trees', and the first leads: name one before",
        ),
        (
            {"tree": Read(Tree, by=7)},  # type: ignore[arg-type]
            "Nesting reads Tree as 'tree' by 7, which is neither a field nor a function",
        ),
        (
            {"a": Tree, "b": Read(Tree, by="tree_id")},
            "Nesting reads the same as 'a' and as 'b': remove one",
        ),
        ({f"a{n}": Read(Tree, by=str) for n in range(17)}, "Nesting reads 17 aggregates, at most"),
    ],
)
def test_it_must_read_aggregates_by_fields(reads: Any, sentence: str) -> None:
    told = mistakes(Tree, decision(reads))
    assert any(each.startswith(sentence) for each in told), told


def test_a_field_missing_in_one_of_its_commands_is_reported_for_that_command() -> None:
    [told] = mistakes(Tree, Nest, decision({"tree": Tree, "nest": Nest}, commands=Nest2 | Grow2))
    assert "not a field of Grow2" in told


def test_a_decision_needs_commands_and_decide() -> None:
    told = mistakes(Tree, decision({"tree": Tree}, commands=None))
    assert told == (
        "Nesting must derive from Decision[Commands]",
        "Nesting needs a static method `decide`",
    )


def test_a_command_is_decided_in_one_place_only() -> None:
    told = mistakes(Tree, decision({"tree": Tree}, commands=Grow))
    assert told == ("Grow is a command of both Tree and Nesting",)
    two = mistakes(Tree, decision({"tree": Tree}), decision({"tree": Tree}))
    assert two == ("Nest2 is a command of both Nesting and Nesting",)


def test_its_aggregates_must_be_in_the_domain() -> None:
    told = mistakes(Tree, decision({"tree": Tree, "nest": Nest}))
    assert told == ("Nesting reads Nest, an aggregate that the domain lacks",)


def test_an_event_of_two_of_its_aggregates_is_ambiguous() -> None:
    class Copy(
        Aggregate[State, Never, Grown], category="copy", id_field="nest_id", initial=State()
    ):
        @staticmethod
        def evolve(state: State, event: Grown) -> State:
            return state

    told = mistakes(Tree, Copy, decision({"tree": Tree, "copy": Read(Copy, by="nest_id")}))
    assert len(told) == 1
    assert "Grown is an event of both: it could not tell for which" in told[0]


def test_an_aggregate_without_commands_needs_a_decision() -> None:
    told = mistakes(Tree, Nest)
    assert told == ("Nest takes no command, and no decision reads it",)


def test_a_route_must_have_the_field_of_the_leading_aggregate() -> None:
    made = decision({"nest": Read(Nest, by="nest_id"), "tree": Tree})
    told = mistakes(Tree, Nest, made, [Route("POST", "/trees/{tree_id}", Nest2)])
    assert "lacks {nest_id}" in told[0]
    registry(Tree, Nest, made, [Route("POST", "/nests/{nest_id}", Nest2)])
    by_function = decision({"tree": Read(Tree, by=lambda c: c.tree_id), "nest": Nest})
    registry(Tree, Nest, by_function, [Route("POST", "/grow", Nest2)])


def test_many_instances_are_read_by_a_field_or_function_each_once_in_order() -> None:
    made = decision(
        {
            "tree": Tree,
            "also": ReadMany(Nest, by="also"),
            "made": ReadMany(Nest, by=lambda c: {f"{c.nest_id}-{n}" for n in (3, 1, 2)}),
        }
    )
    known = registry(Tree, Nest, made).decisions[Nest2]
    command = Nest2(tree_id="1", nest_id="n", also=["b", "a", "b"])
    instances = known.instances(command)
    streams = [each.stream for each in instances]
    assert streams == ["tree-1", "nest-b", "nest-a", "nest-n-1", "nest-n-2", "nest-n-3"]
    states = known.states_for(instances, lambda each: each.stream)
    assert states["tree"] == "tree-1"
    assert list(states["also"].items()) == [("b", "nest-b"), ("a", "nest-a")]
    assert list(states["made"]) == ["n-1", "n-2", "n-3"]
    nothing = known.states_for(instances[:1], lambda each: each.stream)
    assert (nothing["also"], nothing["made"]) == ({}, {})


def test_no_more_ids_are_requested_than_a_decision_may_read() -> None:
    given: list[int] = []

    def endless(command: Command) -> Iterator[str]:
        for n in count():
            given.append(n)
            yield str(n)

    made = decision({"tree": Tree, "nests": ReadMany(Nest, by=endless)})
    known = registry(Tree, Nest, made).decisions[Nest2]
    assert unfit(known.instances(Nest2(tree_id="1", nest_id="n"))) is not None
    assert len(given) == MAX_READS + 1


@pytest.mark.parametrize(
    ("read", "sentence"),
    [
        (Read(Tree, by=lambda c: c.also), "by= of a Read gives one id, not a list: ReadMany"),
        (ReadMany(Tree, by=lambda c: c.tree_id), "by= of a ReadMany gives several ids, not a str"),
    ],
)
def test_a_function_gives_one_id_or_several_as_declared(read: Any, sentence: str) -> None:
    made = registry(Tree, Nest, decision({"nest": Nest, "tree": read})).decisions[Nest2]
    with pytest.raises(TypeError, match=sentence):
        made.instances(Nest2(tree_id="1", nest_id="2", also=["3"]))


def test_two_instances_of_a_group_with_the_same_stream_are_named() -> None:
    made = registry(
        Tree, Nest, decision({"tree": Tree, "nests": ReadMany(Nest, by="also")})
    ).decisions[Nest2]
    found = made.instances(Nest2(tree_id="1", nest_id="2", also=["a", "A"]))
    assert unfit(found) == "two of nests are the same but for their case: 'nest-A'"
