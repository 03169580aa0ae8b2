"""What a host remembers of its last commands, for gateways that did not send them."""

from __future__ import annotations

import asyncio
import weakref

import pytest

from actors.envelope import Done, Envelope, Outcome
from actors.errors import InvalidCommand, KeyReused, NeedsOwnActor, Overloaded, Unavailable
from actors.host.recent_outcomes import RecentOutcomes
from rayfold import Rejected

NO = Rejected("no", "never")
LOST = Unavailable("the store is gone")


def sent(*ids: str) -> list[Envelope]:
    return [Envelope("add", f"counter-{each}", b"{}", each, "") for each in ids]


def note(recent: RecentOutcomes, **outcomes: Outcome) -> None:
    recent.begin(sent(*outcomes)).end(list(outcomes.values()))


def test_a_command_is_pending_and_then_has_its_outcome() -> None:
    recent = RecentOutcomes()
    assert recent.of("a") is None
    batch = recent.begin(sent("a", "b"))
    assert recent.of("b") == ("counter-b", None)
    batch.end([Done(0, 7), NO])
    assert recent.of("a") == ("counter-a", Done(0, 7))
    assert recent.of("b") == ("counter-b", NO)


async def test_known_outcomes_of_a_batch_do_not_wait_for_the_rest() -> None:
    recent = RecentOutcomes()
    batch = recent.begin(sent("a", "b", "c"))
    loop = asyncio.get_running_loop()
    a, b, c = batch.coming = [loop.create_future() for _ in range(3)]
    a.set_result(Done(0, 7))
    c.cancel()
    assert recent.of("a") == ("counter-a", Done(0, 7))
    assert recent.of("b") == ("counter-b", None)
    assert recent.of("c") == ("counter-c", None)
    b.set_result(NO)
    assert recent.of("b") == ("counter-b", NO)


@pytest.mark.parametrize(
    "later", [NO, LOST, KeyReused("a"), InvalidCommand("what"), NeedsOwnActor()]
)
def test_an_outcome_on_the_log_counts_whatever_a_repeat_led_to(later: Exception) -> None:
    recent = RecentOutcomes()
    note(recent, a=Done(0, 7))
    note(recent, a=later)
    recent.begin(sent("a"))
    assert recent.of("a") == ("counter-a", Done(0, 7))


def test_of_several_refusals_the_last_counts() -> None:
    recent = RecentOutcomes()
    note(recent, a=LOST)
    note(recent, a=NO)
    assert recent.of("a") == ("counter-a", NO)
    recent.begin(sent("a"))
    assert recent.of("a") == ("counter-a", None)


@pytest.mark.parametrize("unread", [KeyReused("a"), InvalidCommand("what"), Overloaded()])
def test_a_command_that_was_refused_unread_has_no_outcome(unread: Exception) -> None:
    recent = RecentOutcomes()
    note(recent, a=unread)
    assert recent.of("a") is None


def test_a_kept_refusal_does_not_keep_the_state_in_memory() -> None:
    class State:
        pass

    held: list[weakref.ref[State]] = []

    def refuse() -> None:
        state = State()
        held.append(weakref.ref(state))
        try:
            raise KeyError
        except KeyError as error:
            raise Rejected("no", "never") from error

    recent = RecentOutcomes()
    with pytest.raises(Rejected) as caught:
        refuse()
    refusal = caught.value
    del caught
    note(recent, a=refusal)
    assert held[0]() is None
    assert recent.of("a") == ("counter-a", refusal)


def test_a_command_twice_in_a_batch_is_found_done() -> None:
    recent = RecentOutcomes()
    recent.begin(sent("a", "a")).outcomes = [LOST, Done(1, 9)]
    assert recent.of("a") == ("counter-a", Done(1, 9))


def test_the_oldest_batches_are_forgotten_first() -> None:
    recent = RecentOutcomes(capacity=3)
    for each in ("a", "b", "c", "d"):
        note(recent, **{each: Done(0, 1)})
    assert [recent.of(each) is not None for each in "abcd"] == [False, True, True, True]
    recent.begin(sent("e", "f", "g", "h")).outcomes = [Done(0, 1)] * 4
    assert [recent.of(each) is not None for each in "dh"] == [False, True]


def test_a_repeated_command_is_known_until_its_last_batch_is_forgotten() -> None:
    recent = RecentOutcomes(capacity=3)
    recent.begin(sent("a", "a")).end([NO, NO])
    note(recent, a=Done(0, 1))
    note(recent, b=Done(0, 2))
    assert recent.of("a") == ("counter-a", Done(0, 1))
    note(recent, c=Done(0, 3), d=Done(0, 4))
    assert [recent.of(each) is not None for each in "abcd"] == [False, True, True, True]
