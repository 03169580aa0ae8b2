"""`rayfold counterfactual` against a log that another version of the code wrote."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.local import LocalRuntime
from eventstore.kurrentdb.log import EventLog
from eventstore.records import RawRecord
from tests.unit.deploy.authoring.accounts import SOURCE, domain

_RAYFOLD = "from deploy.cli.command_line import main; main()"
ROOT = Path(__file__).parents[3]
THEN = domain()
COVERED = SOURCE.replace(
    "if command.amount > state.balance:", "if command.amount > state.balance - 10:"
)


async def history(uri: str) -> list[RawRecord]:
    """Have commands decided by what the code was then; return what is on the log."""
    log = EventLog(uri)
    try:
        runtime = LocalRuntime(THEN, log)

        async def send(name: str, **fields: Any) -> None:
            await runtime.send(THEN.commands[name].model(**fields))

        for account in ("ada", "bob"):
            await send("deposit", account_id=account, amount=20)
            await send("withdraw", account_id=account, amount=5)
            await send("withdraw", account_id=account, amount=8)
        await send("transfer", account_id="ada", to="bob", amount=7)
        # At once, so that group commits have several of them.
        many = [(f"many-{number % 5}", number + 1) for number in range(50)]
        await asyncio.gather(*(send("deposit", account_id=at, amount=n) for at, n in many))
        return await on(log)
    finally:
        await log.close()


async def on(log: EventLog) -> list[RawRecord]:
    return [raw async for raw in log.read_all([""])]


def run(folder: Path, uri: str, *flags: str) -> tuple[int, Sequence[str], str]:
    """Return the exit code, the lines, and what went wrong."""
    arguments = ["counterfactual", "--domain", "accounts", "--eventstore", uri, *flags]
    done = subprocess.run(
        [sys.executable, "-c", _RAYFOLD, *arguments],
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


async def test_changed_code_against_a_log(own_eventstore: str, tmp_path: Path) -> None:
    written = await history(own_eventstore)
    (tmp_path / "accounts.py").write_text(SOURCE)

    code, lines, wrong = run(tmp_path, own_eventstore)
    assert (code, lines[0], wrong) == (0, "57 commands decided again: 57 same, 0 different", "")

    (tmp_path / "accounts.py").write_text(COVERED)
    code, lines, wrong = run(tmp_path, own_eventstore, "--json", "--category", "account")
    assert (code, wrong) == (1, "")
    *found, last = (json.loads(line) for line in lines)
    assert [(each["stream"], each["revision"], each["now"]) for each in found] == [
        (stream, 2, {"rejected": "not-covered", "detail": "the account has too little"})
        for stream in ("account-ada", "account-bob")
    ]
    assert last["summary"]["same"] == 55

    since = str(found[0]["position"])
    code, lines, _ = run(tmp_path, own_eventstore, "--since", since)
    assert code == 1
    assert lines[0].startswith("withdraw 2@account-bob")

    code, lines, wrong = run(tmp_path, own_eventstore, "--since", str(2**70))
    assert (code, lines) == (2, [])
    assert wrong.startswith(f"rayfold: --since {2**70} is after the end of this log, position ")

    odd = COVERED.replace("the account has too little", "too little, \\ud800")
    (tmp_path / "accounts.py").write_text(odd)
    code, lines, wrong = run(tmp_path, own_eventstore)
    assert (code, wrong) == (1, "")
    assert "  now      rejected, not-covered: too little, ?" in lines

    code, lines, wrong = run(tmp_path, own_eventstore, "--category", "acount")
    assert (code, lines) == (2, [])
    assert wrong == "rayfold: no aggregate has the category 'acount'; there are account\n"

    log = EventLog(own_eventstore)
    try:
        assert await on(log) == written
    finally:
        await log.close()
