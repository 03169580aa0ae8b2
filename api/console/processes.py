"""Processes and schedules: their histories, and operators' decisions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler

from api.commands.schedules import Schedules
from api.console.forms import Action, Console, Input, Line, Outcome, Question, given, needed
from api.console.templates import url
from api.http.endpoint import Call
from api.http.headers import ids_of
from api.http.reply import Reply
from api.operators.processes import ProcessAbort, Processes, ProcessOrder
from rayfold import Registry

LIMIT = 100


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    """Which command is not sent."""

    command_id: str


class ProcessPages:
    """Pages over the processes of a stack."""

    def __init__(self, registry: Registry, processes: Processes, schedules: Schedules) -> None:
        self._registry = registry
        self._processes = processes
        self._schedules = schedules

    def handlers(self, console: Console) -> list[HTTPRouteHandler]:
        """Return the handlers."""
        return [
            console.get("/console/processes", partial(self._list, console)),
            console.get("/console/processes/show", partial(self._show, console)),
            console.get("/console/schedules", partial(self._scheduled, console)),
            *console.action(
                Action("/console/retry", "retry", ProcessOrder, self._ask_retry, self._retry)
            ),
            *console.action(
                Action("/console/abort", "abort", ProcessAbort, self._ask_abort, self._abort)
            ),
            *console.action(
                Action("/console/cancel", "cancel", Cancel, self._ask_cancel, self._cancel)
            ),
        ]

    async def _list(self, console: Console, call: Call) -> Reply:
        fields = given(call)
        name, parked = fields.get("process") or None, fields.get("parked") == "true"
        found = await self._processes.list(name, parked=parked, limit=LIMIT)
        return console.page(
            call,
            "processes.html",
            found=found,
            name=name or "",
            parked=parked,
            names=sorted(self._registry.processes),
        )

    async def _show(self, console: Console, call: Call) -> Reply:
        name, key = needed(given(call), "process", "key")
        found: Any = await self._processes.show(name, key)
        return console.page(call, "process.html", found=found)

    async def _scheduled(self, console: Console, call: Call) -> Reply:
        found = await self._processes.schedules(LIMIT)
        due = [
            *({"kind": "timeout", **each} for each in found["schedules"]),
            *({"kind": "command", **each} for each in found["commands"]),
        ]
        due.sort(key=lambda each: (not each.get("error"), str(each["due"])))
        return console.page(call, "schedules.html", due=due[:LIMIT], total=found["total"])

    async def _ask_retry(self, fields: Mapping[str, str]) -> Question:
        name, key = needed(fields, "process", "key")
        return Question(
            f"Retry {name} {key}?",
            [
                "The process handles the record on which it failed again, by the code "
                "that runs now, then those behind it.",
                "If it fails again, it stays parked, and nothing is lost.",
            ],
            "Retry",
            {"process": name, "key": key},
            url("/console/processes/show", process=name, key=key),
        )

    async def _retry(self, call: Call, wanted: ProcessOrder) -> Outcome:
        await self._processes.retry(wanted.process, wanted.key)
        now: Any = await self._processes.show(wanted.process, wanted.key)
        good = now["status"] != "parked"
        why = "" if good else f": {now['error']}"
        line = Line(f"{wanted.process} {wanted.key}: {now['status']}{why}", good)
        title = "It goes on" if good else "Still parked"
        return Outcome(title, [line], _story(wanted))

    async def _ask_abort(self, fields: Mapping[str, str]) -> Question:
        name, key = needed(fields, "process", "key")
        return Question(
            f"Abort {name} {key}?",
            [
                "The process ends. What it has not sent yet is never sent. Its "
                "compensation undoes what it has done, if its author wrote one.",
                "It cannot be started again.",
            ],
            "Abort it",
            {"process": name, "key": key},
            url("/console/processes/show", process=name, key=key),
            [
                Input(
                    "as_it_is",
                    "As it is, without its compensation",
                    "true",
                    "checkbox",
                    hint="For a process whose compensation fails too.",
                )
            ],
            danger=True,
        )

    async def _abort(self, call: Call, wanted: ProcessAbort) -> Outcome:
        await self._processes.abort(wanted.process, wanted.key, as_it_is=wanted.as_it_is)
        line = Line(f"{wanted.process} {wanted.key}: aborted")
        return Outcome("Aborted", [line], _story(wanted))

    async def _ask_cancel(self, fields: Mapping[str, str]) -> Question:
        (command_id,) = needed(fields, "command_id")
        return Question(
            "Cancel the command?",
            [
                f"The command {command_id} is not sent when it is due.",
                "It cannot be scheduled again under the same id.",
            ],
            "Cancel it",
            {"command_id": command_id},
            "/console/schedules",
            danger=True,
        )

    async def _cancel(self, call: Call, wanted: Cancel) -> Outcome:
        command_id, *_ = ids_of(wanted.command_id)
        told = await self._schedules.cancel(command_id, call.principal)
        line = f"{told['command']} {told['stream']} {told['command_id']}: {told['status']}"
        return Outcome("Cancelled", [Line(line)], "/console/schedules")


def _story(wanted: ProcessOrder) -> str:
    return url("/console/processes/show", process=wanted.process, key=wanted.key)
