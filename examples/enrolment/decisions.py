"""The rules of enrolment: each reads what it needs, and holds whoever else decides meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypedDict

from pydantic import Field

from examples.enrolment.courses import (
    Course,
    CourseId,
    CourseOpened,
    CourseState,
    Enrolled,
    Left,
    SeatGiven,
    SeatTaken,
    Student,
    StudentId,
    StudentState,
    Title,
    TitleState,
    TitleTaken,
)
from rayfold import Command, Decision, Event, NotFound, Rejected

MAX_COURSES = 5
"""That one student may take at a time."""


class OpenCourse(Command, name="open-course"):
    """Open a course with a title that no other course has."""

    course_id: CourseId
    title: Annotated[str, Field(min_length=1, max_length=100)]
    seats: Annotated[int, Field(ge=0, le=100_000)] = 20


class Enrol(Command, name="enrol"):
    """Enrol a student in a course."""

    course_id: CourseId
    student_id: StudentId


class Leave(Command, name="leave"):
    """Remove a student from a course."""

    course_id: CourseId
    student_id: StudentId


class Opened(TypedDict):
    """What opening a course reads."""

    course: CourseState
    title: TitleState


class Opening(Decision[OpenCourse], reads={"course": Course, "title": Title}):
    """No two courses have the same title."""

    @staticmethod
    def decide(states: Opened, command: OpenCourse) -> Iterable[Event]:
        """See `Decision.decide`."""
        if states["course"].known:
            raise Rejected("course-exists", f"course {command.course_id!r} exists already")
        if other := states["title"].course_id:
            raise Rejected("title-taken", f"course {other!r} has the title {command.title!r}")
        return [
            CourseOpened(**command.model_dump()),
            TitleTaken(title=command.title, course_id=command.course_id),
        ]


class Concerned(TypedDict):
    """What enrolling and leaving read."""

    course: CourseState
    student: StudentState


class Enrolment(Decision[Enrol | Leave], reads={"course": Course, "student": Student}):
    """Limits the students of a course to its seats, and the courses of each student."""

    @staticmethod
    def decide(states: Concerned, command: Enrol | Leave) -> Iterable[Event]:
        """See `Decision.decide`."""
        course, student = states["course"], states["student"]
        both = command.model_dump()
        if not course.known:
            raise NotFound("unknown-course", f"there is no course {command.course_id!r}")
        if isinstance(command, Leave):
            if command.course_id not in student.courses:
                raise Rejected("not-enrolled", f"{command.student_id!r} does not take it")
            return [SeatGiven(**both), Left(**both)]
        if command.course_id in student.courses:
            raise Rejected("enrolled-already", f"{command.student_id!r} takes it already")
        if course.taken >= course.seats:
            raise Rejected("course-full", f"all {course.seats} seats are taken")
        if len(student.courses) >= MAX_COURSES:
            raise Rejected("too-many-courses", f"a student takes {MAX_COURSES} courses at most")
        return [SeatTaken(**both), Enrolled(**both)]
