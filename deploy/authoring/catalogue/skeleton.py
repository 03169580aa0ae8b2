"""The skeleton of an upcaster that an author has to write."""

from __future__ import annotations

import json
import re

from deploy.authoring.catalogue.compatibility import (
    ENCRYPTED,
    IN_CLEAR,
    UNREAD,
    Fault,
    Schema,
    told,
)


def skeleton(
    name: str,
    version: int,
    faults: list[Fault],
    old: Schema | None = None,
    new: Schema | None = None,
) -> str:
    """Return the text of an upcaster from that version, with dots to be filled in."""
    head = (
        f"@upcaster({json.dumps(name, ensure_ascii=False)}, from_version={version})\n"
        f"def {_function(name)}_{version}(data: dict[str, Any])"
    )
    if old is None or new is None:
        return (
            f"{head} -> None:\n"
            '    return None  # the event is ignored; or: return "AnotherName", {...}'
        )
    had, wanted = old.get("properties", {}), new.get("properties", {})
    gone = [each.field for each in faults if each.new == UNREAD and len(each.path) == 1]
    lines = []
    for field in dict.fromkeys(each.field for each in faults):
        as_it_is = all(each.old in (IN_CLEAR, ENCRYPTED) for each in faults if each.field == field)
        if field not in wanted or as_it_is:
            continue
        today = told(wanted[field], new.get("$defs", {}))
        said = [(each.path, each.been) for each in faults if each.field == field]
        if len(said) == 1 and said[0][1] and said[0][0] == (field,):
            lines.append(f'        "{field}": data.get("{field}", {said[0][1]}),')
        elif field in had:
            before = told(had[field], old.get("$defs", {}))
            lines.append(f'        "{field}": ...,  # {today}, from data["{field}"], {before}')
        else:
            likely = [each for each in gone if _type(had[each]) == _type(wanted[field])]
            value = f'data["{likely[0]}"]' if len(likely) == 1 else "..."
            lines.append(f'        "{field}": {value},  # {today}')
    kept = "data"
    if gone:
        kept = "{name: each for name, each in data.items() if name not in " + _set_of(gone) + "}"
    change = " | {\n" + "\n".join(lines) + "\n    }" if lines else ""
    return f"{head} -> dict[str, Any]:\n    return {kept}{change}"


def _type(schema: Schema) -> Schema:
    return {word: each for word, each in schema.items() if word != "default"}


def _function(name: str) -> str:
    """Return the name as that of a Python function: an event's name may be any text."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    found = "".join(each if f"_{each}".isidentifier() else "_" for each in words)
    return found if found.isidentifier() else f"_{found}"


def _set_of(names: list[str]) -> str:
    return "{" + ", ".join(f'"{each}"' for each in names) + "}"
