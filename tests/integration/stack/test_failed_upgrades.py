"""Releases that fail to start: the previous one keeps serving, until the next one can."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

from tests.integration.stack.conftest import RAY
from tests.integration.stack.roles import Role
from tests.integration.stack.test_command_line import run
from tests.ports import free_port
from tests.releases.two import accounts

PATIENCE = 120.0

ONE, TWO = "tests.releases.one", "tests.releases.two"

BROKEN = """
import os
if "RELEASE_IS_BROKEN_HERE" in os.environ:
    raise RuntimeError("not on this machine")
"""

T = TypeVar("T")


def test_a_release_that_fails_to_start_changes_nothing_and_another_one_can_follow(
    ray: str, databases: list[str], store: str, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    package = code / "broken_release"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(BROKEN)
    (package / "accounts.py").write_text(Path(accounts.__file__).read_text())
    parking = code / "parking_release"
    parking.mkdir()
    (parking / "__init__.py").touch()
    fold = "cents=row.cents + event.cents, deposits"
    source = Path(accounts.__file__).read_text()
    assert fold in source
    (parking / "accounts.py").write_text(source.replace(fold, "cents=[][event.cents], deposits"))
    path = os.pathsep.join([str(code), str(Path.cwd())])
    environment = {**RAY, "PYTHONPATH": path}
    where = ("--ray-address", ray, "--eventstore", store, "--postgres", databases[0])
    started: list[Role] = []

    def role(name: str, *command: str) -> Role:
        each = Role(
            *(tmp_path, name, *command, "--domain", ONE, *where),
            **environment,
            RELEASE_IS_BROKEN_HERE="1",
        )
        started.append(each)
        return each.start().ready()

    def upgrade(domain: str, *more: str) -> str:
        command = ("upgrade", "--domain", domain, *where, *more)
        done = run(*command, cwd=Path.cwd(), **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        controller = role("controller", "controller")
        gateway = role("gateway", "gateway", "--port", str(free_port()))
        with httpx.Client(base_url=gateway.url, timeout=30) as http:
            cents = 0

            def serves() -> None:
                nonlocal cents
                answer = http.post("/accounts/ada/deposit", json={"cents": 1})
                assert answer.status_code == 202, answer.text
                cents += 1
                token = {"Consistency-Token": answer.headers["Consistency-Token"]}
                read = http.get("/accounts/ada", headers=token)
                assert read.status_code == 200, read.text
                assert read.json()["cents"] == cents

            def limit() -> str:
                """Return what the release's middleware says of a deposit of less than nothing."""
                answer = http.post("/accounts/ada/deposit", json={"cents": -1})
                assert answer.status_code == 409, answer.text
                return str(answer.json()["code"])

            serves()
            assert limit() == "less-than-nothing"
            # It runs where `rayfold upgrade` does, and not where the controller is.
            assert "is wanted: broken_release" in upgrade("broken_release", "--no-wait")
            controller.says("a successor does not start")
            assert "not on this machine" in controller.log()
            serves()
            back = upgrade(ONE)  # as if nothing had been
            assert "runs already" in back
            assert "done" in back
            serves()

            # The next one's view breaks on what it is built from.
            brought = json.dumps({"working_dir": str(code)})
            parks = "parking_release", "--runtime-env", brought
            refused = run("upgrade", "--domain", *parks, *where, cwd=Path.cwd(), **environment)
            assert refused.returncode == 2
            assert "is refused, and the old one goes on: of 'balances'" in refused.stderr
            assert (
                "in postgres one key that serves would be parked, the first ada" in refused.stderr
            )
            assert "accept this with --accept-parked" in refused.stderr
            serves()

            # The next one comes up, but its controller is killed before it has taken over.
            until(lambda: len(children(controller)) == 1)  # what did not start may still be ending
            [first] = children(controller)
            upgrade(TWO, "--no-wait")
            successor = until(lambda: children(controller) - {first})
            psutil.Process(successor.pop()).send_signal(signal.SIGKILL)
            serves()
            assert "done" in upgrade(TWO)
            assert limit() == "nothing"
            until(lambda: first not in children(controller))
            serves()
            interest = http.post("/accounts/ada/interest")
            assert interest.status_code == 202, interest.text

            # The one that was refused is put up with: what it does not serve is told of.
            assert "done" in upgrade(*parks, "--accept-parked")
            assert http.get("/accounts/ada").status_code == 404
            row = {"view": "balances", "key": "ada"}

            def parked() -> list[tuple[str, str, str]]:
                listed = http.get("/operators/parked").json()["parked"]
                return [(each["store"], each["view"], each["key"]) for each in listed]

            def told() -> set[tuple[str, str]]:
                parts = http.get("/operators/status").json()["parts"]
                return {
                    (part["kind"], each["key"]) for part in parts for each in part.get("poison", ())
                }

            both = ["memory", "postgres"]
            until(lambda: parked() == [(store, *row.values()) for store in both])
            until(lambda: told() == {(store, "ada") for store in both})
            replayed = http.post("/operators/replay", json=row).json()["replayed"]
            assert [each["parked"] for each in replayed] == [True, True]

            # The next one folds it again, from the beginning.
            assert "done" in upgrade(TWO)
            serves()
            assert parked() == []
    finally:
        run("down", "--postgres", databases[0], "--ray-address", ray, cwd=Path.cwd(), **RAY)
        for each in reversed(started):
            if each.process.poll() is None:
                each.stop()


def children(role: Role) -> set[int]:
    """Return the processes that a controller's or gateway's parent has started."""
    return {each.pid for each in psutil.Process(role.process.pid).children()}


def until(found: Callable[[], T]) -> T:
    """Return what is found, as soon as it is."""
    deadline = time.monotonic() + PATIENCE
    while not (now := found()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return now
