"""Pages from templates: every value that is put into one is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup, escape

from rayfold.foreign_text import shown

_FOLDER = Path(__file__).parent / "pages"


class Templates:
    """The package's templates. A missing value is shown as nothing, as parts differ in what they
    report."""

    def __init__(self, **known: Any) -> None:
        """`known` is available in every template."""
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            finalize=_seen,
        )
        self._environment.globals |= {"url": url, **known}
        self._environment.filters |= {
            "number": number,
            "megabytes": megabytes,
            "seconds": seconds,
            "moment": moment,
            "pretty": pretty,
            "ticked": ticked,
        }

    def render(self, template: str, content: Mapping[str, Any]) -> bytes:
        """Return the page as UTF-8; an unpaired surrogate becomes its escape."""
        made = self._environment.get_template(template).render(content)
        return made.encode("utf-8", "backslashreplace")


def _seen(value: Any) -> Any:
    """Return a value to put into a page; a text with invisible characters escaped, by `shown`."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def url(path: str, **given: object) -> str:
    """Return a path with a query string of the given values, leaving out None."""
    pairs = {name: value for name, value in given.items() if value is not None}
    return f"{path}?{urlencode(pairs, errors='replace')}" if pairs else path


def ticked(text: str) -> Markup:
    """Return a sentence with the text between backticks marked as code."""
    pieces = [escape(shown(each)) for each in text.split("`")]
    code = Markup("<code>{}</code>").format
    return Markup("").join(
        code(each) if at % 2 and at < len(pieces) - 1 else each for at, each in enumerate(pieces)
    )


def number(value: float | None) -> Markup:
    """Return a number with its thousands separated; nothing for None.

    It is markup, because `shown` would escape the separator, a special space, in a text.
    """
    return Markup("" if value is None else f"{value:,}".replace(",", "\N{THIN SPACE}"))


def megabytes(value: int | None) -> str:
    """Return bytes in megabytes."""
    return "" if value is None else number(round(value / 1e6))


def seconds(value: float | None) -> str:
    """Return a duration for people to read."""
    if value is None:
        return ""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def moment(value: object) -> str:
    """Return an instant in UTC, to the millisecond."""
    if not value:
        return ""
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return shown(value)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"


def pretty(value: object) -> str:
    """Return plain data as JSON on several lines, or a text as it is."""
    if isinstance(value, str):
        return shown(value)
    return shown(json.dumps(value, indent=2, ensure_ascii=False, default=str))
