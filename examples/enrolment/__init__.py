"""Course enrolment: `RAYFOLD_DOMAIN=examples.enrolment rayfold up`.

A course has so many seats, a student takes so many courses at most, and no two courses have one
title: rules over several aggregates, each of them one decision.
"""
