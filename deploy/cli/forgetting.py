"""Requests to forget persons, and waits until none of their decrypted data is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from deploy.cli.saying import say

LOOK = 0.3
"""Seconds between two checks."""


def follow_forgetting(ask: Callable[..., Any], subjects: Sequence[str]) -> bool:
    """Forget persons, and wait until nothing is left; return whether all of them were known.

    Raises:
        StartError: the gateway does not answer, or the domain has no personal data.
    """
    answer = ask("/operators/forget", {"subjects": list(subjects)})
    waiting = {each["subject"] for each in answer["forgotten"] if not each["settled"]}
    for each in answer["forgotten"]:
        if each["subject"] not in waiting:
            say(f"{each['subject']}: forgotten before, at {each['forgotten_at']}")
    if waiting:
        views = ", ".join(answer["views"]) or "no view"
        say(f"{', '.join(sorted(waiting))}: the keys are destroyed; rebuilding {views}")
    told = ""
    while waiting:
        time.sleep(LOOK)
        now = ask("/operators/forgetting")
        left = {each["subject"] for each in now["left"]}
        for subject in sorted(waiting - left):
            say(f"{subject}: forgotten")
        waiting &= left
        if waiting and now["error"] and now["error"] != told:
            told = now["error"]
            say(f"delayed, and tried again: {told}")
    for subject in answer["unknown"]:
        say(f"{subject}: unknown: no personal data is on the log under that id")
    return not answer["unknown"]
