"""`rayfold verify`: what it prints besides the differences."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.cli import operating


@pytest.mark.parametrize(
    ("kind", "told"),
    [("postgres", True), ("memory", True), ("publication", False), ("reactor", False)],
)
def test_only_parked_rows_are_reported_besides_the_differences(
    kind: str, told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: dict[str, dict[str, Any]] = {
        "/operators/verify": {"differences": []},
        "/operators/status": {"parts": [{"part": "one", "kind": kind, "parked": 1}]},
    }
    monkeypatch.setattr(operating, "ask", lambda _data, _url, path: answers[path])
    operating.verify()
    said = capsys.readouterr().out
    assert said.startswith("0 differences\n")
    assert ("rayfold parked list" in said) == told
