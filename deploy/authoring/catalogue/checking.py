"""What `rayfold check` says: whether the code reads what the lock file says is on the log.

An event of the log is read by the class of its name, after the upcasters from its version on. So
each locked version must either be the current one and fit, or have an upcaster, or be corrected by
the author.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from deploy.authoring.catalogue.compatibility import Fault, Schema, faults, is_personal
from deploy.authoring.catalogue.lock import Catalogue, Locked
from deploy.authoring.catalogue.skeleton import skeleton
from deploy.authoring.catalogue.trial import becomes, complaints
from rayfold import Registry


@dataclass
class Broken:
    """A version of an event that the code cannot read as it was: a line for each reason."""

    name: str
    version: int
    reasons: list[str]
    remedy: str
    code: str = ""
    """An upcaster to paste; empty if none helps."""

    def lines(self) -> list[str]:
        """Return a line for each reason."""
        return [f"{self.name} {self.version}: {each}; {self.remedy}" for each in self.reasons]


@dataclass
class Report:
    """The faults, and the differences of the lock from the code."""

    broken: list[Broken] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    """A line for each category whose events now belong to others: see `_moved`."""
    behind: list[str] = field(default_factory=list)


def check(registry: Registry, lock: Catalogue, code: Catalogue) -> Report:
    """Compare the code with the lock."""
    report = Report()
    for name, locked in sorted(lock.events.items()):
        report.broken += _of_versions(registry, name, locked, code.events.get(name))
        report.broken += _undecrypted(registry, name, locked)
    for name, locked in sorted(lock.integration_events.items()):
        present = code.integration_events.get(name)
        for version, schema in sorted(locked.versions.items()):
            broken = _of_integration_event(registry, name, version, schema, present)
            report.broken += [broken] if broken else []
    report.moved = _moved(registry, lock.events, code.events)
    if not report.broken and not report.moved:
        report.behind = _behind(lock.events, code.events)
        report.behind += _behind(lock.integration_events, code.integration_events)
    return report


def taken_up(lock: Catalogue, code: Catalogue, report: Report) -> Catalogue:
    """Return the lock updated from the code, except for broken events."""
    dropped = {(each.name, each.version) for each in report.broken}
    return Catalogue(
        _taken_up(lock.events, code.events, dropped, report.moved),
        _taken_up(lock.integration_events, code.integration_events, dropped, ()),
    )


def _taken_up(
    lock: dict[str, Locked],
    code: dict[str, Locked],
    dropped: set[tuple[str, int]],
    given_up: Collection[str],
) -> dict[str, Locked]:
    found = {}
    for name in {*lock, *code}:
        before, present = lock.get(name), code.get(name)
        versions = {
            version: schema
            for version, schema in (before.versions if before else {}).items()
            if (name, version) not in dropped
        } | (present.versions if present else {})
        if versions:
            categories = (present.categories if present else []) or [
                each for each in (before.categories if before else []) if each not in given_up
            ]
            version = present.version if present else max(versions)
            found[name] = Locked(version, versions, categories)
    return found


def _behind(lock: dict[str, Locked], code: dict[str, Locked]) -> list[str]:
    found = []
    for name, present in sorted(code.items()):
        locked = lock.get(name)
        if locked is None:
            found.append(f"{name} is new")
        elif present.version not in locked.versions:
            found.append(f"{name} has version {present.version}")
        elif locked.versions[present.version] != present.versions[present.version]:
            found.append(f"{name} {present.version} has a compatible change")
        elif locked.version != present.version:
            found.append(f"{name} is at version {present.version}")
        elif new := ", ".join(sorted({*present.categories} - {*locked.categories})):
            found.append(f"{name} is of the category {new}")
    return found


def _moved(registry: Registry, lock: dict[str, Locked], code: dict[str, Locked]) -> dict[str, str]:
    """Return the categories whose streams would no longer be read: `up` and `upgrade` refuse those.

    They know the categories from Postgres; whether there are such streams, the log says.
    """
    found: dict[str, str] = {}
    for name, locked in sorted(lock.items()):
        gone = name not in code
        now = _after_upcasters(registry, name, locked) if gone else code[name].categories
        for before in locked.categories if now else ():
            if before not in (registry.aggregates if gone else now):
                told = (
                    f"{name} is of the category {now[0]!r} now, and streams of {before!r} may be on"
                    f" the log: give its aggregate the category {before!r} back"
                )
                found.setdefault(before, told)
    return found


def _after_upcasters(registry: Registry, name: str, locked: Locked) -> list[str]:
    """Return the categories of what upcasters make of an event that no class declares."""
    found: set[str] = set()
    for version, schema in locked.versions.items():
        for each in becomes(registry, name, version, schema):
            found |= registry.categories_of.get(each, set())
    return sorted(found)


def _undecrypted(registry: Registry, name: str, locked: Locked) -> list[Broken]:
    """Return the versions whose personal data would no longer be decrypted."""
    told = "its personal data is encrypted, and a domain without Personal fields cannot decrypt it"
    return [
        Broken(name, version, [told], "keep at least one field of an event Personal[…]")
        for version, schema in sorted(locked.versions.items())
        if is_personal(schema) and not registry.is_personal
    ]


def _of_versions(
    registry: Registry, name: str, locked: Locked, present: Locked | None
) -> list[Broken]:
    last = max(locked.versions)
    found = [
        broken
        for version, schema in sorted(locked.versions.items())
        # For versions above the code's, the last one gives the advice.
        if not (present and present.version < version < last)
        and (broken := _of_event(registry, name, version, schema, present))
    ]
    if present and any(each.version == present.version for each in found):
        # It needs a new version, for which there are no upcasters yet.
        return [each for each in found if not registry.has_upcaster(name, each.version)]
    return found


def _of_event(
    registry: Registry, name: str, version: int, schema: Schema, present: Locked | None
) -> Broken | None:
    if registry.has_upcaster(name, version):
        reasons = complaints(registry, name, version, schema)
        return Broken(name, version, reasons, "fix the upcaster") if reasons else None
    if present is None:
        told = "no class declares it, and old events of it may be on the log"
        remedy = "bring its class back, or write an upcaster into an event of today"
        return Broken(name, version, [told], remedy, skeleton(name, version, []))
    wanted = present.versions[present.version]
    found = faults(schema, wanted)
    if version == present.version:
        if not found:
            return None
        remedy = f"raise its version to {version + 1} and write an upcaster"
        return Broken(
            name, version, _told(found), remedy, skeleton(name, version, found, schema, wanted)
        )
    if version > present.version:
        told = f"the code is back at version {present.version}, which cannot read later ones"
        again = f"keep version {version}, or raise it to {version + 1} and write an upcaster"
        return Broken(name, version, [told], again)
    told = f"the code has version {present.version}, and no upcaster reads this one"
    code = skeleton(name, version, found, schema, wanted)
    return Broken(name, version, [told, *_told(found)], "write the upcaster", code)


def _of_integration_event(
    registry: Registry, name: str, version: int, schema: Schema, present: Locked | None
) -> Broken | None:
    """Return the faults of an event that a process may have published: no upcaster reads it."""
    if present is None:  # nothing is published any more
        return None
    is_present = version == present.version
    if not is_present and not registry.processes:  # handlers derive these from facts each time
        return None
    found = faults(schema, present.versions[present.version], lost=is_present)
    remedy = "keep it readable, by a default; or declare an integration event of another name"
    return Broken(name, version, _told(found), remedy) if found else None


def _told(found: list[Fault]) -> list[str]:
    return [str(each) for each in found]
