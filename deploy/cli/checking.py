"""The command that compares the events of the code with those that may be on a log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.saying import say
from deploy.errors import StartError

app = typer.Typer()


@app.command()
def check(
    domain: Annotated[str | None, typer.Option(help="The package.")] = None,
    lock: Annotated[
        Path | None, typer.Option(help="The file; events.lock.json in the working folder.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Update it from the code.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --update: drop what the code cannot read.")
    ] = False,
) -> None:
    """Say whether the code reads the events that were written before."""
    from deploy.authoring.catalogue.checking import check as compare
    from deploy.authoring.catalogue.checking import taken_up
    from deploy.authoring.catalogue.lock import FILE, Catalogue, catalogue_of, read, text_of
    from deploy.authoring.endless import endless
    from deploy.stack.settings import load
    from deploy.stack.unused import unused
    from rayfold import DomainError, Registry

    if force and not update:
        raise StartError("--force goes with --update")
    settings = load(domain=domain)
    package, file = settings.domain, lock or Path(FILE)
    locked = read(file)
    try:
        registry = Registry.load(package)
    except DomainError as error:
        raise StartError(*error.mistakes) from error
    for sentence in unused(settings, registry):
        say(f"nothing uses it: {sentence}")
    for name in endless(registry):
        told = "no handler yields Complete, so its processes stay open for ever"
        say(f"warning: {name}: {told}", err=True)
    if locked is None and not update:
        say(f"{file} does not exist: write it with `rayfold check --update`, and commit it")
        raise typer.Exit(1)
    code = catalogue_of(registry)
    report = compare(registry, locked or Catalogue(), code)
    for line in (line for broken in report.broken for line in broken.lines()):
        say(line)
    for line in report.moved.values():
        say(line)
    if (report.broken or report.moved) and not force:
        for upcaster in (broken.code for broken in report.broken if broken.code):
            say("", *upcaster.splitlines())
        raise typer.Exit(1)
    if update:
        for broken in report.broken:
            say(f"dropped: {broken.name} {broken.version}")
        for line in report.moved.values():
            say(f"accepted: {line.partition(',')[0]}")
        _write(file, text_of(taken_up(locked or Catalogue(), code, report)))
        say(f"{file} was written: commit it")
    elif report.behind:
        say(f"{file} is out of date: run `rayfold check --update`")
        for each in report.behind:
            say(f"  {each}")
    told = f"{len(code.events)} events and {len(code.integration_events)} integration events"
    say(f"{package}: {told}, which read what {file} has")


def _write(file: Path, text: str) -> None:
    """Write the lock file, which is committed, and may be a link.

    Raises:
        StartError: it cannot be written.
    """
    from deploy.stack.whole_file import write_whole

    try:
        write_whole(file.resolve(), text, 0o666)
    except OSError as error:
        raise StartError(f"{file} cannot be written: {error}") from error
