"""The rules of enrolment, without any infrastructure."""

from __future__ import annotations

import asyncio

import pytest

from actors.local import LocalRuntime
from examples.enrolment.courses import (
    Course,
    CourseOpened,
    CourseResized,
    Enrolled,
    Left,
    ResizeCourse,
    SeatGiven,
    SeatTaken,
    TitleTaken,
)
from examples.enrolment.decisions import (
    MAX_COURSES,
    Enrol,
    Enrolment,
    Leave,
    OpenCourse,
    Opening,
)
from rayfold import Receipt, Registry, Rejected
from rayfold.testing import Story, given

OPENED = CourseOpened(course_id="logic", title="Logic", seats=1)
TITLE = TitleTaken(title="Logic", course_id="logic")
BOTH = {"course_id": "logic", "student_id": "ada"}


def test_a_course_is_opened_under_a_title_of_its_own() -> None:
    opening = OpenCourse(course_id="logic", title="Logic", seats=1)
    given(Opening).when(opening).then(OPENED, TITLE)
    given(Opening, OPENED, TITLE).when(opening).then_rejected("course-exists")
    other = OpenCourse(course_id="logic-2", title="Logic")
    given(Opening, OPENED, TITLE).when(other).then_rejected("title-taken")


def test_enrolling_takes_a_seat() -> None:
    given(Enrolment, OPENED).when(Enrol(**BOTH)).then(SeatTaken(**BOTH), Enrolled(**BOTH))
    past = (OPENED, SeatTaken(**BOTH), Enrolled(**BOTH))
    given(Enrolment, *past).when(Enrol(**BOTH)).then_rejected("enrolled-already")
    eve = Enrol(course_id="logic", student_id="eve")
    given(Enrolment, *past).when(eve).then_rejected("course-full")
    given(Enrolment, *past).when(Leave(**BOTH)).then(SeatGiven(**BOTH), Left(**BOTH))
    given(Enrolment, OPENED).when(Leave(**BOTH)).then_rejected("not-enrolled")
    given(Enrolment).when(eve).then_not_found()


def test_a_student_takes_so_many_courses_at_most() -> None:
    past = [Enrolled(student_id="ada", course_id=f"course-{n}") for n in range(MAX_COURSES)]
    given(Enrolment, OPENED, *past).when(Enrol(**BOTH)).then_rejected("too-many-courses")


def test_an_event_of_another_aggregate_is_refused_as_the_past_of_a_decision() -> None:
    with pytest.raises(LookupError, match="TitleTaken"):
        given(Enrolment, TITLE)


def test_the_aggregates_own_rules_still_apply() -> None:
    given(Course, OPENED, SeatTaken(**BOTH)).when(
        ResizeCourse(course_id="logic", seats=0)
    ).then_rejected("seats-taken")
    given(Course, OPENED).when(ResizeCourse(course_id="logic", seats=9)).then(
        CourseResized(course_id="logic", seats=9)
    )


def test_a_test_story_may_have_decisions() -> None:
    story = Story(Course, Opening, Enrolment)
    story.send(OpenCourse(course_id="logic", title="Logic", seats=1))
    assert story.send(Enrol(**BOTH)) == [SeatTaken(**BOTH), Enrolled(**BOTH)]
    assert story.state_of(Course, "logic").taken == 1
    with pytest.raises(Rejected, match="seats are taken"):
        story.send(Enrol(course_id="logic", student_id="eve"))


async def test_neither_rule_is_broken_however_many_come_at_once() -> None:
    runtime = LocalRuntime(Registry.load("examples.enrolment"))
    courses = [f"course-{n}" for n in range(9)]
    await asyncio.gather(
        *(runtime.send(OpenCourse(course_id=each, title=each, seats=20)) for each in courses)
    )
    outcomes = await asyncio.gather(
        *(
            runtime.send(Enrol(course_id=course, student_id=f"student-{n}"))
            for n in range(30)
            for course in courses
        ),
        return_exceptions=True,
    )
    receipts = [each for each in outcomes if isinstance(each, Receipt)]
    refused = {each.rule for each in outcomes if isinstance(each, Rejected)}
    assert refused <= {"course-full", "too-many-courses"}
    assert 100 <= len(receipts) <= 30 * MAX_COURSES
    for receipt in receipts:
        course, student = receipt.revisions
        assert receipt.revisions[student] < MAX_COURSES
        assert receipt.revisions[course] <= 20
    assert runtime.host.status()["conflicts"] == 0


async def test_of_two_courses_with_the_same_title_one_is_opened() -> None:
    runtime = LocalRuntime(Registry.load("examples.enrolment"))
    outcomes = await asyncio.gather(
        *(runtime.send(OpenCourse(course_id=f"c-{n}", title="Logic")) for n in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Receipt) for each in outcomes) == 1
    assert {each.rule for each in outcomes if isinstance(each, Rejected)} == {"title-taken"}
