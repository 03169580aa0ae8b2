"""Foreign text does no harm to the terminal of an operator."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.cli import command_line, gateway_client
from deploy.errors import StartError, tell

EVIL = "\x1b]52;c;Y3VybCBldmlsfHNo\x07\nready \x9b2J \u202e [/x] [red]"
SEEN = r"\x1b]52;c;Y3VybCBldmlsfHNo\x07\nready \x9b2J \u202e [/x] [red]"

PART = {"part": "memory:orders#0", "kind": "memory", "ready": True, "error": EVIL}
PARKED = {"store": "memory", "view": "orders", "key": "k", "stream": "order-1", "revision": 0}
AT = {"type": "OperatorAsked", "id": "1", "at": "now", "principal": "olga", "action": "delete"}
FAILED = {"type": "OperatorFailed", "asked": "1", "status": 409, "reason": EVIL}
PROCESS = {"process": "p", "key": "k", "status": "parked", "error": EVIL, "next_timeout": None}
PUBLICATION = {"publication": "p", "status": "failing", "target": None, "lag": None, "parked": []}


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["status"], {"parts": [PART], "rebuilds": []}),
        (["parked", "list"], {"parked": [{**PARKED, "error": EVIL}], "next_cursor": None}),
        (["explain", "orders"], {"healthy": True, "sentence": EVIL}),
        (["audit"], {"audit": [FAILED, {**AT, "arguments": {}}]}),
        (["processes", "list"], {"processes": [PROCESS], "total": 1}),
        (["publications", "list"], {"publications": [{**PUBLICATION, "error": EVIL}]}),
    ],
)
def test_shown_text_cannot_control_the_terminal(
    arguments: list[str], answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_client, "ask", lambda *_, **__: answer)
    done = CliRunner().invoke(command_line.app, [*arguments, "--url", "http://shop.example"])
    assert done.exit_code == 0, done.exception
    assert SEEN in done.output
    assert EVIL not in done.output


def test_error_text_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tell(StartError(f"no such thing: {EVIL}"))
    seen = SEEN.replace("\\n", " ")
    assert capsys.readouterr().err == f"rayfold: no such thing: {seen}\n"
