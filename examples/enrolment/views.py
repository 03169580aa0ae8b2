"""What readers see of courses and students, and where it is on the web."""

from __future__ import annotations

from examples.enrolment.courses import (
    CourseId,
    CourseOpened,
    CourseResized,
    Enrolled,
    Left,
    ResizeCourse,
    SeatGiven,
    SeatTaken,
    StudentId,
)
from examples.enrolment.decisions import Enrol, Leave, OpenCourse
from rayfold import Query, Route, View, on, starts


class Courses(View, name="courses", key="course_id"):
    """A course."""

    course_id: str
    title: str
    seats: int
    taken: int = 0

    @staticmethod
    @starts(CourseOpened)
    def opened(event: CourseOpened) -> Courses:
        return Courses(**event.model_dump())

    @staticmethod
    @on(CourseResized)
    def resized(course: Courses, event: CourseResized) -> Courses:
        return course.replace(seats=event.seats)

    @staticmethod
    @on(SeatTaken)
    def seat_taken(course: Courses, event: SeatTaken) -> Courses:
        return course.replace(taken=course.taken + 1)

    @staticmethod
    @on(SeatGiven)
    def seat_given(course: Courses, event: SeatGiven) -> Courses:
        return course.replace(taken=course.taken - 1)


class Students(View, name="students", key="student_id"):
    """A student's courses."""

    student_id: str
    courses: tuple[str, ...] = ()

    @staticmethod
    @on(Enrolled)
    def enrolled(student: Students, event: Enrolled) -> Students:
        return student.replace(courses=(*student.courses, event.course_id))

    @staticmethod
    @on(Left)
    def left(student: Students, event: Left) -> Students:
        return student.replace(
            courses=[each for each in student.courses if each != event.course_id]
        )


class GetCourse(Query, name="get-course", view=Courses):
    """One course."""

    course_id: CourseId


class GetStudent(Query, name="get-student", view=Students):
    """One student."""

    student_id: StudentId


ROUTES = [
    Route("POST", "/courses/{course_id}", OpenCourse),
    Route("POST", "/courses/{course_id}/resize", ResizeCourse),
    Route("POST", "/courses/{course_id}/students/{student_id}", Enrol),
    Route("DELETE", "/courses/{course_id}/students/{student_id}", Leave),
    Route("GET", "/courses/{course_id}", GetCourse),
    Route("GET", "/students/{student_id}", GetStudent),
]
