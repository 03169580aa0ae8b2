"""What a process does with its events: keys, ids, timers, ends, and circles."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from rayfold import (
    NOW,
    Aborted,
    Aggregate,
    Command,
    CommandRejected,
    Complete,
    EndlessProcess,
    Event,
    IntegrationEvent,
    Message,
    Now,
    ProcessManager,
    Publish,
    Rejected,
    Schedule,
    Send,
    Step,
    TimedOut,
    Unschedule,
    UtcDatetime,
    on,
    on_abort,
    on_rejected,
    on_timeout,
    starts,
)
from rayfold.process import MAX_STEPS, NobodyHandles
from rayfold.process_instance import ProcessInstance, ProcessStep, Sending
from rayfold.testing import Story, given

START = datetime(2026, 1, 1, tzinfo=UTC)


class Ring(Command, name="ring"):
    bell: str
    times: int = 1
    at: Now = NOW


class Rang(Event, name="Rang"):
    bell: str
    times: int
    at: UtcDatetime


class BellState(Message):
    rung: int = 0


class Bell(Aggregate[BellState, Ring, Rang], category="bell", id_field="bell", initial=BellState()):
    @staticmethod
    def decide(state: BellState, command: Ring) -> list[Rang]:
        if command.times > 9:
            raise Rejected("too-often", "at most nine times")
        return [Rang(bell=command.bell, times=command.times, at=command.at)]

    @staticmethod
    def evolve(state: BellState, event: Rang) -> BellState:
        return state.replace(rung=state.rung + event.times)


class RangOut(IntegrationEvent, name="rang-out"):
    bell: str


class Heard(Message):
    rang: int = 0
    refused: str = ""
    late: UtcDatetime | None = None


class Echo(ProcessManager[Heard, Rang], name="echo", key="bell", initial=Heard()):
    """Does with a bell's ring what its number says."""

    @staticmethod
    def evolve(state: Heard, happened: Rang | TimedOut | CommandRejected[Any]) -> Heard:
        match happened:
            case Rang():
                return state.replace(rang=state.rang + 1)
            case TimedOut():
                return state.replace(late=happened.due)
            case CommandRejected():
                return state.replace(refused=happened.rule)

    @staticmethod
    @starts(Rang, key=lambda event: event.bell or None)
    def rang(state: Heard, event: Rang) -> Iterator[Step]:
        if event.times == 2:
            yield Send(Ring(bell="other", times=3))
            yield Send(Ring(bell="other", times=99))
        elif event.times == 4:
            yield Schedule("late", after=timedelta(seconds=5))
        elif event.times == 5:
            yield Unschedule("late")
        elif event.times == 6:
            yield Publish(RangOut(bell=event.bell))
            yield Complete()
            yield Send(Ring(bell="never"))
        elif event.times == 7:
            yield Send(Ring(bell=event.bell, times=7))
        elif event.times == 8:
            yield Schedule("again", at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))))

    @staticmethod
    @on_timeout("late")
    def late(state: Heard, timeout: TimedOut) -> Iterator[Step]:
        yield Send(Ring(bell="late"))

    @staticmethod
    @on_timeout("again")
    def again(state: Heard, timeout: TimedOut) -> Iterator[Step]:
        yield Schedule("again", after=timedelta())

    @staticmethod
    @on_rejected(Ring)
    def refused(state: Heard, rejected: CommandRejected[Ring]) -> Iterator[Step]:
        yield Send(Ring(bell="sorry"))


def rang(times: int, bell: str = "a") -> Rang:
    return Rang(bell=bell, times=times, at=START)


def test_a_refusal_is_passed_to_the_process_that_sent_the_command() -> None:
    story = Story(Bell, Echo, now=START)
    story.send(Ring(bell="a", times=2))
    assert story.state_of(Bell, "other").rung == 3
    assert story.state_of(Bell, "sorry").rung == 1
    assert story.process(Echo, "a").state == Heard(rang=1, refused="too-often")
    assert not story.process(Echo, "a").waiting


def test_times_in_commands_are_filled_in_by_the_runtime() -> None:
    story = Story(Bell, Echo, now=START)
    story.send(Ring(bell="a", times=2))
    assert {event.at for event in story.events if isinstance(event, Rang)} == {START}
    given(Echo).when(rang(2)).then(
        Send(Ring(bell="other", times=3, at=START)), Send(Ring(bell="other", times=99, at=START))
    )


def test_a_timeout_fires_at_its_instant_and_once() -> None:
    story = Story(Bell, Echo, now=START)
    story.send(Ring(bell="a", times=4))
    story.wait(timedelta(seconds=4))
    assert story.state_of(Bell, "late").rung == 0
    story.wait(timedelta(days=1))
    assert story.state_of(Bell, "late").rung == 1
    assert story.process(Echo, "a").state.late == START + timedelta(seconds=5)


def test_a_timeout_is_moved_by_one_of_its_name_and_forgotten_when_unscheduled() -> None:
    story = Story(Bell, Echo, now=START)
    story.send(Ring(bell="a", times=4))
    story.wait(timedelta(seconds=4))
    story.send(Ring(bell="a", times=4))
    story.wait(timedelta(seconds=4))
    assert story.state_of(Bell, "late").rung == 0
    story.send(Ring(bell="a", times=5))
    story.wait(timedelta(days=1))
    assert story.state_of(Bell, "late").rung == 0


def test_a_timer_that_was_moved_does_not_fire() -> None:
    instance = ProcessInstance(Echo.__rayfold__, "a")
    apply(instance, rang(4), 1)
    first = instance.timers["late"]
    apply(instance, rang(4), 2)
    assert instance.on_timer(first, now=START) is None
    assert instance.on_timer(instance.timers["late"], now=START) is not None


def test_a_process_that_has_ended_receives_no_more_events() -> None:
    story = Story(Bell, Echo, now=START)
    story.send(Ring(bell="a", times=4))
    story.send(Ring(bell="a", times=6))
    assert story.published == [RangOut(bell="a")]
    assert not story.process(Echo, "a").timers
    story.send(Ring(bell="a", times=2))
    story.wait(timedelta(days=1))
    assert len(story.steps_of(Echo, "a")) == 2
    assert story.state_of(Bell, "never").rung == 0
    given(Echo, rang(6)).when(rang(2)).then_nothing()


def test_an_event_without_a_key_concerns_no_process() -> None:
    given(Echo).when(rang(2, bell="")).then_nothing()


def test_an_event_counts_once() -> None:
    instance = ProcessInstance(Echo.__rayfold__, "a")
    apply(instance, rang(1), 7)
    assert step_of(instance, rang(1), 7) is None
    assert step_of(instance, rang(1), 3) is None
    assert step_of(instance, rang(1), 8) is not None


def test_a_command_has_the_same_id_whoever_decides_again() -> None:
    ids = [sent(step_of(ProcessInstance(Echo.__rayfold__, "a"), rang(2), 7)) for _ in range(2)]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2
    assert not set(ids[0]) & set(sent(step_of(ProcessInstance(Echo.__rayfold__, "b"), rang(2), 7)))
    assert not set(ids[0]) & set(sent(step_of(ProcessInstance(Echo.__rayfold__, "a"), rang(2), 8)))


def test_a_process_that_keeps_causing_itself_is_stopped_with_the_chain_of_causes() -> None:
    story = Story(Bell, Echo, now=START)
    with pytest.raises(EndlessProcess) as endless:
        story.send(Ring(bell="a", times=7))
    assert endless.value.chain[:3] == ("ring", "ring", "ring")
    assert "more than 100 commands" in str(endless.value)
    assert len(story.events) == 101


def test_timers_that_are_always_due_at_once_are_stopped_too() -> None:
    story = Story(Bell, Echo, now=START)
    story.send(Ring(bell="a", times=8))
    with pytest.raises(EndlessProcess) as endless:
        story.wait(timedelta(seconds=1))
    assert endless.value.chain == ("again",)


def test_instants_beyond_the_calendar_are_moved_to_its_ends() -> None:
    first, last = (each.replace(tzinfo=UTC) for each in (datetime.min, datetime.max))
    east, west = (timezone(timedelta(hours=hours)) for hours in (1, -1))
    assert Schedule("a", at=datetime.min.replace(tzinfo=east)).due(START) == first
    assert Schedule("a", after=timedelta.min).due(START) == first
    assert Schedule("a", at=last).due(START) == last
    assert Schedule("a", at=datetime.max.replace(tzinfo=west)).due(START) == last
    assert Schedule("a", after=timedelta.max).due(START) == last


@pytest.mark.parametrize(
    "arguments", [{}, {"after": timedelta(), "at": START}, {"at": datetime(2026, 1, 1)}]
)
def test_a_schedule_has_one_instant(arguments: Any) -> None:
    with pytest.raises(ValueError, match="Schedule"):
        Schedule("late", **arguments)


@pytest.mark.parametrize("make", [lambda: Send(rang(1)), lambda: Publish(rang(1))])
def test_commands_are_sent_and_integration_events_published(make: Any) -> None:
    with pytest.raises(TypeError):
        make()


def test_a_missing_handler_is_named() -> None:
    class Deaf(ProcessManager[Heard, Rang], name="deaf", key="bell", initial=Heard()):
        @staticmethod
        def evolve(state: Heard, happened: Any) -> Heard:
            return state

        @staticmethod
        @starts(Rang)
        def rang(state: Heard, event: Rang) -> Any:
            return [Complete()] * (MAX_STEPS + 1) if event.times == 9 else ["ring"]

    with pytest.raises(NobodyHandles, match="on_timeout"):
        Deaf.__rayfold__.react(Heard(), TimedOut("late", START))
    with pytest.raises(NobodyHandles, match=r"on_rejected\(Ring\).*too-often"):
        Deaf.__rayfold__.react(Heard(), CommandRejected(Ring(bell="a"), "too-often"))
    with pytest.raises(ValueError, match="more than 1000 steps"):
        given(Deaf).when(rang(9))
    with pytest.raises(TypeError, match="not a step"):
        given(Deaf).when(rang(1))


def _yielding(step: Step) -> type[ProcessManager[Any, Any]]:
    """Return a manager that yields this when it begins."""

    class Slip(ProcessManager[Heard, Rang], name="slip", key="bell", initial=Heard()):
        @staticmethod
        def evolve(state: Heard, happened: Any) -> Heard:
            return state

        @staticmethod
        @starts(Rang)
        def rang(state: Heard, event: Rang) -> Iterator[Step]:
            yield step

        @staticmethod
        @on_timeout("late")
        def late(state: Heard, timeout: TimedOut) -> Iterator[Step]:
            yield Complete()

    return Slip


def test_a_timeout_without_a_handler_is_reported_when_it_is_scheduled() -> None:
    with pytest.raises(NobodyHandles, match=r"no @on_timeout\('lat'\) in 'slip'"):
        given(_yielding(Schedule("lat", after=timedelta(hours=1)))).when(rang(1))


def test_a_timeout_whose_handler_was_removed_can_be_unscheduled() -> None:
    step = Unschedule("lat")
    given(_yielding(step)).when(rang(1)).then(step)


def test_a_handler_may_be_for_several_events_and_timeouts() -> None:
    class Busy(ProcessManager[Heard, Rang], name="busy", key="bell", initial=Heard()):
        @staticmethod
        def evolve(state: Heard, happened: Any) -> Heard:
            return state

        @staticmethod
        @on(Rang)
        @on_timeout("one", "two")
        @on_timeout("three")
        def anything(state: Heard, happened: Any) -> Iterator[Step]:
            yield Complete()

    assert set(Busy.__rayfold__.timeouts) == {"one", "two", "three"}
    assert set(Busy.__rayfold__.handlers) == {Rang}


def step_of(instance: ProcessInstance, event: Event, position: int) -> ProcessStep | None:
    return instance.on_events([event], trigger=f"bell-a@{position}", position=position, now=START)


def apply(instance: ProcessInstance, event: Event, position: int) -> None:
    step = step_of(instance, event, position)
    assert step is not None
    instance.apply(step)


def sent(step: ProcessStep | None) -> list[UUID]:
    assert step is not None
    return [each.command_id for each in step.decided if isinstance(each, Sending)]


class Undoing(ProcessManager[Heard, Rang], name="undoing", key="bell", initial=Heard()):
    """Undoes what it did when it is aborted."""

    @staticmethod
    def evolve(state: Heard, happened: Rang | TimedOut | CommandRejected[Any] | Aborted) -> Heard:
        match happened:
            case Rang():
                return state.replace(rang=state.rang + 1)
            case CommandRejected():
                return state.replace(refused=happened.rule)
            case Aborted():
                return state.replace(rang=-state.rang)
            case _:
                return state

    @staticmethod
    @starts(Rang)
    def rang(state: Heard, event: Rang) -> Iterator[Step]:
        yield Schedule("late", after=timedelta(days=1))
        yield Send(Ring(bell="first"))
        yield Send(Ring(bell="second"))

    @staticmethod
    @on_timeout("late")
    def late(state: Heard, timeout: TimedOut) -> Iterator[Step]:
        yield Complete()

    @staticmethod
    @on_rejected(Ring)
    def refused(state: Heard, rejected: CommandRejected[Ring]) -> Iterator[Step]:
        yield Complete()

    @staticmethod
    @on_abort
    def aborted(state: Heard, aborted: Aborted) -> Iterator[Step]:
        yield Send(Ring(bell="undo"))
        yield Complete()


def test_an_abort_is_passed_to_a_process_manager_that_compensates() -> None:
    rang = Rang(bell="b", times=1, at=START)
    state = given(Undoing, rang).when(Aborted()).then(Send(Ring(bell="undo")), Complete())
    assert state.rang == -1


def test_an_abort_cancels_all_commands_but_the_one_under_way() -> None:
    instance = ProcessInstance(Undoing.__rayfold__, "b")
    rang = Rang(bell="b", times=1, at=START)
    step = instance.on_events([rang], trigger="t", position=1, now=START)
    assert step is not None
    instance.apply(step)
    first, second = instance.waiting
    abort = instance.on_abort((), keep=first, now=START, position=7)
    assert abort.answered == (second,)
    assert [type(each) for each in abort.happened] == [CommandRejected, Aborted]
    instance.apply(abort)
    assert instance.state.refused == "withdrawn"
    assert (instance.ended, instance.aborting, instance.position) == (True, True, 7)
    assert first in instance.waiting
    assert second not in instance.waiting
    assert len(instance.waiting) == 2  # and what undoes it
    assert instance.timers == {}


def test_an_abort_without_a_handler_ends_the_process() -> None:
    given(Echo, Rang(bell="b", times=4, at=START)).when(Aborted()).then(Complete())
    assert given(Echo, Rang(bell="b", times=4, at=START)).when(Aborted()).state.rang == 1
