"""The command that copies a log from one event store to another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.saying import say

if TYPE_CHECKING:
    from deploy.copying.copy import Copied

app = typer.Typer()

Source = Annotated[str, typer.Option("--from", help="URI of the store that has the log.")]
Target = Annotated[str, typer.Option("--to", help="URI of an empty store, or of a copy begun.")]

UpToNow = Annotated[
    bool,
    typer.Option("--up-to-now", help="Finish it even if the log is written to meanwhile."),
]


@app.command()
def copy(source: Source, target: Target, up_to_now: UpToNow = False) -> None:
    """Copy a log to another event store; exits 1 if it was written to meanwhile."""
    copied, personal = asyncio.run(_run(source, target, up_to_now=up_to_now))
    finished = up_to_now or not copied.went_on
    for line in _lines(copied, finished=finished, personal=personal):
        say(line)
    if not finished:
        raise typer.Exit(1)


async def _run(source: str, target: str, *, up_to_now: bool) -> tuple[Copied, bool]:
    """Return the result, and whether there is personal data.

    Raises:
        StartError: the log was not copied, or not completely.
    """
    from deploy.copying.copy import Copy, CopyRefused
    from deploy.copying.own_records import UnknownRecord
    from deploy.errors import StartError
    from eventstore.errors import StoreError, does_not
    from eventstore.kurrentdb.connection import without_password
    from eventstore.kurrentdb.whole_log import WholeLog
    from eventstore.one_record import first_record
    from eventstore.personal.witness import STREAM as PERSONAL

    if source == target:
        raise StartError("--from and --to are the same store")
    ends = {"source": WholeLog(source), "target": WholeLog(target)}
    try:
        for (name, log), uri in zip(ends.items(), (source, target), strict=True):
            try:
                await log.connect()
            except StoreError as error:
                raise StartError(
                    f"the {name}, {without_password(uri)}, {does_not(error)}: {error}"
                ) from error
        copied = await Copy(ends["source"], ends["target"], _tell, up_to_now=up_to_now).run()
        return copied, await first_record(ends["target"], PERSONAL) is not None
    except (CopyRefused, UnknownRecord) as error:
        raise StartError(str(error)) from error
    except StoreError as error:
        raise StartError(f"{error}; run the same command again to continue") from error
    finally:
        for log in ends.values():
            await log.close()


def _tell(copied: Copied) -> None:
    say(f"{copied.records} records, up to position {copied.position}", err=True)


def _lines(copied: Copied, *, finished: bool, personal: bool) -> Iterator[str]:
    yield (
        f"the copy has {copied.records} records of {copied.streams} streams, {copied.found} of them"
        f" from before, up to position {copied.position} of the source; {copied.seconds:.1f} s"
    )
    for category, count in sorted(copied.by_category.items()):
        yield f"  {category}: {count}"
    yield f"checkpoints of process managers and publications: {copied.checkpoints}"
    if copied.removed:
        yield f"written in place of records that were deleted in the source: {copied.removed}"
    if copied.tombstoned:
        yield f"streams deleted for good, also in the copy: {copied.tombstoned}"
    yield f"both logs have the same content, SHA-256 {copied.digest}"
    if not finished:
        yield (
            "the source was written to meanwhile, so no stack starts on the copy yet: stop the"
            " source's stack, and run the same command again"
        )
        return
    yield "next: start a stack on the copy with an empty Postgres"
    if personal:
        yield "before that, restore the keys of personal data to it: tables rayfold_personal_*"
