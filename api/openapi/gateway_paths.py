"""The gateway's own operations: outcomes of commands, health, and what operators do."""

from __future__ import annotations

from litestar.openapi.spec import Operation, Parameter, PathItem

from api.http.headers import MAX_KEY
from api.openapi.names import OperationIds
from api.openapi.operations import (
    TEXT,
    answer,
    body,
    content,
    path_parameter,
    problems,
    query_parameter,
)
from api.openapi.schemas import Given
from api.operators.processes import MAX_LIMIT
from api.operators.routes import MAX_ASKED, MAX_SCAN

_REVISION = Given(given={"type": "integer", "minimum": 0, "maximum": 10**18 - 1})
_LIMIT = Given(given={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT})
_AUDIT_LIMIT = Given(given={"type": "integer", "minimum": 1, "maximum": 999})
_ASKED = Given(given={"type": "string", "pattern": r"\S", "minLength": 1, "maxLength": MAX_ASKED})
_SCAN = Given(given={"type": "integer", "minimum": 1, "maximum": MAX_SCAN})
_BOOLEAN = Given(given={"type": "boolean"})
_TEXT = Given(given={"type": "string"})
_COMMAND_ID = Given(given={"type": "string", "minLength": 1, "maxLength": MAX_KEY})
_PUBLIC: list[dict[str, list[str]]] = [{}]


class GatewayPaths:
    """Describes the paths that every domain has."""

    def __init__(self, ids: OperationIds) -> None:
        self._ids = ids

    def add_to(self, paths: dict[str, PathItem]) -> None:
        """Add every path."""
        command_id = path_parameter(
            "command_id",
            _COMMAND_ID,
            "The command id, or the Idempotency-Key that the command was sent with",
        )
        paths["/commands/{command_id}"] = PathItem(
            get=Operation(
                tags=["commands"],
                summary="The status of a recent command",
                operation_id=self._ids.of("get", "command-status"),
                parameters=[command_id],
                responses={
                    "200": answer("The status of the command", "CommandStatus"),
                    **problems(404),
                },
            ),
            delete=Operation(
                tags=["commands"],
                summary="Cancel a command that is to be sent later",
                operation_id=self._ids.of("cancel", "scheduled-command"),
                parameters=[command_id],
                responses={
                    "200": answer("The command is cancelled", "CommandStatus"),
                    **problems(404, 409),
                },
            ),
        )
        self._add_health(paths)
        self._add_stack(paths)
        self._add_log(paths)
        self._add_processes(paths)
        self._add_publications(paths)
        self._add_metrics(paths)

    def _add_health(self, paths: dict[str, PathItem]) -> None:
        for path, name, summary in (
            ("/health/live", "check-live", "Whether the gateway answers"),
            ("/health/ready", "check-ready", "Whether the gateway can serve requests"),
            ("/health/parts", "check-parts", "Whether every part of the stack is ready"),
        ):
            paths[path] = PathItem(
                get=Operation(
                    tags=["health"],
                    summary=summary,
                    operation_id=self._ids.of("", name),
                    responses={"200": answer("Yes", "Health"), **problems(503)},
                    security=_PUBLIC,
                )
            )

    def _add_stack(self, paths: dict[str, PathItem]) -> None:
        paths["/operators/status"] = self._asks(
            "get-status", "The status of every part", "StackStatus"
        )
        paths["/operators/verify"] = self._asks(
            "verify", "How stores differ from a fresh fold of the log", "Verification"
        )
        paths["/operators/audit"] = self._asks(
            "list-audit",
            "What operators did, newest first",
            "AuditNotes",
            query_parameter("limit", _AUDIT_LIMIT, "The most notes to return, 50 by default"),
        )
        paths["/operators/scale"] = self._does(
            "scale", "Set the number of parts of a kind", "Scale", "Scale"
        )
        paths["/operators/rebuild"] = self._does(
            "rebuild", "Begin to rebuild a view from the log", "Rebuild", "RebuildStatus", "202"
        )
        paths["/operators/rebuilds"] = self._asks(
            "list-rebuilds", "The last rebuild of each view", "RebuildList"
        )

    def _add_log(self, paths: dict[str, PathItem]) -> None:
        """Add the operations that read single events and their effects, and that change these."""
        paths["/operators/parked"] = self._asks(
            "list-parked",
            "The parked keys, in the log's order",
            "ParkedEvents",
            query_parameter("view", _TEXT, "Only keys of this view, SQL projection or reactor"),
            query_parameter("key", _TEXT, "Only this key, or this stream"),
            query_parameter("limit", _AUDIT_LIMIT, "The most keys to return, 999 by default"),
            query_parameter("cursor", _TEXT, "The `next_cursor` of the previous page"),
        )
        paths["/operators/events"] = self._asks(
            "list-events",
            "Events of aggregates, in order",
            "LogPage",
            query_parameter("stream", _TEXT, "Only events of this stream"),
            query_parameter("after", _REVISION, "The `next` of the previous page"),
            query_parameter("limit", _AUDIT_LIMIT, "The most events to return, 100 by default"),
        )
        paths["/operators/events/{stream}/{revision}"] = self._asks(
            "get-event",
            "An event as it was recorded in the log",
            "LoggedEvent",
            path_parameter("stream"),
            path_parameter("revision", _REVISION),
            unknown=True,
        )
        paths["/operators/causality"] = self._asks(
            "get-causality",
            "Everything that a command caused",
            "Causality",
            query_parameter(
                "id",
                _ASKED,
                "The id of a command or a correlation, or an event as `REVISION@STREAM`",
                required=True,
            ),
            query_parameter(
                "scan", _SCAN, "How many records to read in each direction, 50,000 by default"
            ),
            unknown=True,
        )
        paths["/operators/explain/{name}"] = self._asks(
            "explain",
            "Why a view lags, or a query waits",
            "Explanation",
            path_parameter("name"),
            unknown=True,
        )
        paths["/operators/replay"] = self._does(
            "replay", "Fold parked events again", "Replay", "ReplayAnswer"
        )
        paths["/operators/discard"] = self._does(
            "discard",
            "Discard a parked event for good, and fold the later ones",
            "Discard",
            "DiscardAnswer",
        )
        paths["/operators/delete"] = self._does(
            "delete-stream", "Delete an aggregate's stream", "Delete", "DeleteAnswer"
        )
        paths["/operators/forget"] = self._does(
            "forget",
            "Destroy the keys of persons, so that their data cannot be read",
            "Forget",
            "ForgetAnswer",
            "202",
        )
        paths["/operators/forgetting"] = self._asks(
            "list-forgetting", "Persons of whom decrypted data may be left", "Forgetting"
        )

    def _add_processes(self, paths: dict[str, PathItem]) -> None:
        limit = query_parameter("limit", _LIMIT)
        paths["/processes"] = self._asks(
            "list-processes",
            "Processes that have not ended, the parked ones first",
            "ProcessList",
            query_parameter("process", _TEXT, "Only processes of this process manager"),
            query_parameter("parked", _BOOLEAN, "Only parked processes"),
            limit,
            unknown=True,
        )
        paths["/processes/{name}/{key}"] = self._asks(
            "get-process",
            "A process: its state, its steps, and what it waits for",
            "Process",
            path_parameter("name"),
            path_parameter("key"),
            unknown=True,
        )
        paths["/operators/schedules"] = self._asks(
            "list-schedules",
            "Timeouts and scheduled commands that are due next",
            "ScheduleList",
            limit,
        )
        for order, takes, summary in (
            ("retry", "ProcessOrder", "Retry the record that a process is parked on"),
            ("abort", "ProcessAbort", "End a process, and run its compensation"),
        ):
            paths[f"/operators/processes/{order}"] = self._does(
                f"{order}-process", summary, takes, "ProcessOrder", refusals=(404, 409)
            )

    def _add_publications(self, paths: dict[str, PathItem]) -> None:
        paths["/publications"] = self._asks(
            "list-publications",
            "Every publication, and its parked keys",
            "PublicationList",
            query_parameter("publication", _TEXT, "Only this publication"),
            query_parameter(
                "limit", _AUDIT_LIMIT, "The most parked keys of each to return, 999 by default"
            ),
            query_parameter(
                "cursor", _TEXT, "The `next_cursor` of the previous page of `publication`"
            ),
        )
        paths["/operators/publications/replay"] = self._does(
            "replay-publication",
            "Publish parked events, or a range of the log, again",
            "Republish",
            "Republished",
            refusals=(404,),
        )

    def _add_metrics(self, paths: dict[str, PathItem]) -> None:
        metrics = content("Prometheus' text format", {"text/plain": TEXT})
        paths["/metrics"] = PathItem(
            get=Operation(
                tags=["operators"],
                summary="Counters and gauges",
                operation_id=self._ids.of("get", "metrics"),
                responses={"200": metrics, **problems()},
            )
        )

    def _asks(
        self, name: str, summary: str, schema: str, *parameters: Parameter, unknown: bool = False
    ) -> PathItem:
        """Return an operators' GET; `unknown`: its subject may not exist."""
        refusals = (404,) * unknown + (422,) * bool(parameters)
        return PathItem(
            get=Operation(
                tags=["operators"],
                summary=summary,
                operation_id=self._ids.of("", name),
                parameters=list(parameters) or None,
                responses={"200": answer(summary, schema), **problems(*refusals)},
            )
        )

    def _does(
        self,
        name: str,
        summary: str,
        takes: str,
        gives: str,
        status: str = "200",
        refusals: tuple[int, ...] = (),
    ) -> PathItem:
        """Return an operators' POST."""
        return PathItem(
            post=Operation(
                tags=["operators"],
                summary=summary,
                operation_id=self._ids.of("", name),
                request_body=body(takes),
                responses={
                    status: answer("Done", gives),
                    **problems(*refusals, 413, 415, 422),
                },
            )
        )
