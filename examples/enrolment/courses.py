"""Courses, their titles, and students: three small aggregates that decisions change together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Never

from pydantic import Field

from rayfold import Aggregate, Command, Event, Message, NotFound, Rejected

CourseId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.:-]*$", max_length=64)]
StudentId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.:-]*$", max_length=64)]


class ResizeCourse(Command, name="resize-course"):
    """Change the number of seats of a course; enrolled students keep their seats."""

    course_id: CourseId
    seats: Annotated[int, Field(ge=0, le=100_000)]


class CourseOpened(Event, name="CourseOpened"):
    """A course was opened; students may enrol in it."""

    course_id: str
    title: str
    seats: int


class CourseResized(Event, name="CourseResized"):
    """The number of seats of a course changed."""

    course_id: str
    seats: int


class SeatTaken(Event, name="SeatTaken"):
    """A student enrolled in the course."""

    course_id: str
    student_id: str


class SeatGiven(Event, name="SeatGiven"):
    """A student left the course."""

    course_id: str
    student_id: str


CourseEvent = CourseOpened | CourseResized | SeatTaken | SeatGiven


class CourseState(Message):
    """What deciding on a course needs to know."""

    known: bool = False
    seats: int = 0
    taken: int = 0


class Course(
    Aggregate[CourseState, ResizeCourse, CourseEvent],
    category="course",
    id_field="course_id",
    initial=CourseState(),
):
    """A course, and how many of its seats are taken."""

    @staticmethod
    def decide(state: CourseState, command: ResizeCourse) -> Iterable[CourseEvent]:
        """See `Aggregate.decide`."""
        if not state.known:
            raise NotFound("unknown-course", f"there is no course {command.course_id!r}")
        if command.seats < state.taken:
            raise Rejected("seats-taken", f"{state.taken} seats are taken")
        return [CourseResized(course_id=command.course_id, seats=command.seats)]

    @staticmethod
    def evolve(state: CourseState, event: CourseEvent) -> CourseState:
        """See `Aggregate.evolve`."""
        match event:
            case CourseOpened():
                return CourseState(known=True, seats=event.seats)
            case CourseResized():
                return state.replace(seats=event.seats)
            case SeatTaken():
                return state.replace(taken=state.taken + 1)
            case SeatGiven():
                return state.replace(taken=state.taken - 1)


class TitleTaken(Event, name="TitleTaken"):
    """A course has this title."""

    title: str
    course_id: str


class TitleState(Message):
    """The course that has this title; empty if none has it."""

    course_id: str = ""


class Title(
    Aggregate[TitleState, Never, TitleTaken],
    category="course_title",
    id_field="title",
    initial=TitleState(),
):
    """An index: a stream for each title, so that a rule over all courses reads one stream."""

    @staticmethod
    def evolve(state: TitleState, event: TitleTaken) -> TitleState:
        """See `Aggregate.evolve`."""
        return TitleState(course_id=event.course_id)


class Enrolled(Event, name="Enrolled"):
    """The student enrolled in the course."""

    student_id: str
    course_id: str


class Left(Event, name="Left"):
    """The student left the course."""

    student_id: str
    course_id: str


class StudentState(Message):
    """The courses that a student takes."""

    courses: frozenset[str] = frozenset()


class Student(
    Aggregate[StudentState, Never, Enrolled | Left],
    category="student",
    id_field="student_id",
    initial=StudentState(),
):
    """A student, who begins with the first enrolment."""

    @staticmethod
    def evolve(state: StudentState, event: Enrolled | Left) -> StudentState:
        """See `Aggregate.evolve`."""
        match event:
            case Enrolled():
                return StudentState(courses=state.courses | {event.course_id})
            case Left():
                return StudentState(courses=state.courses - {event.course_id})
