"""Server-side filters on ``$all``: a prefix list or a regular expression, on stream or type.

Matches are remembered per name, and filters per expression, so that a thousand subscribers with
the same filter ask the regular expression once a name. The default filter is SQL, and so are
prefixes: where the log is read from disk the database decides, without a look at Python's names.
"""

import re
from collections.abc import Callable

from kurrentdbclient.protos.v1 import persistent_pb2, streams_pb2

from eventstore.embedded.protocol.constants import FLAG_HIDDEN, FLAG_SYSTEM
from eventstore.embedded.protocol.errors import index_not_found, invalid_argument, shown
from eventstore.embedded.storage.event import Event
from eventstore.embedded.storage.names import DEFAULT_EXCLUDE

FilterOptions = (
    streams_pb2.ReadReq.Options.FilterOptions | persistent_pb2.CreateReq.AllOptions.FilterOptions
)

INDEX_PREFIX = "$idx-"
_REMEMBERED = 100_000
_MAX_REGEX = 32_768
_MAX_SQL = 16_384
_MAX_PREFIXES = 400
"""In SQL, which nests no deeper than 1,000 of them."""


class EventFilter:
    """Decides whether ``$all`` shows an event to a reader."""

    def __init__(self, on_stream: bool, accept: Callable[[str], bool], sql: str | None) -> None:
        self._on_stream = on_stream
        self._accept = accept
        self._known: dict[str, bool] = {}
        self.sql = sql
        """The same condition in SQL, where there is one."""
        self.is_default = False

    def matches(self, stream: str, event_type: str) -> bool:
        """Return whether a name matches; for events that are not hidden."""
        name = stream if self._on_stream else event_type
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[name] = self._accept(name)
        return known

    def shows(self, event: Event) -> bool:
        """Return whether a reader with this filter gets the event."""
        if event.flags & FLAG_HIDDEN:
            return False
        known = self._known.get(event.stream if self._on_stream else event.type)
        return self.matches(event.stream, event.type) if known is None else known


class _Everything(EventFilter):
    def __init__(self) -> None:
        super().__init__(False, lambda _: True, f"flags & {FLAG_HIDDEN} = 0")

    def shows(self, event: Event) -> bool:
        return not event.flags & FLAG_HIDDEN


class _Default(EventFilter):
    def __init__(self) -> None:
        super().__init__(False, lambda _: True, "flags = 0")
        self.is_default = True

    def matches(self, stream: str, event_type: str) -> bool:
        return re.search(DEFAULT_EXCLUDE, event_type) is not None

    def shows(self, event: Event) -> bool:
        return not event.flags & (FLAG_HIDDEN | FLAG_SYSTEM)


EVERYTHING = _Everything()
DEFAULT = _Default()


class _Index(EventFilter):
    """A secondary index: what users wrote, of one category or type, in the order of ``$all``."""

    def matches(self, stream: str, event_type: str) -> bool:
        return not event_type.startswith("$") and super().matches(stream, event_type)

    def shows(self, event: Event) -> bool:
        return not event.type.startswith("$") and super().shows(event)


_filters: dict[tuple[bool, str, tuple[str, ...]], EventFilter] = {}


def make_filter(on_stream: bool, regex: str, prefixes: tuple[str, ...]) -> EventFilter:
    """Return the filter for an expression; a regex that isn't empty wins over the prefixes."""
    if regex == DEFAULT_EXCLUDE and not on_stream:
        return DEFAULT
    key = (on_stream, regex, () if regex else prefixes)
    found = _filters.get(key)
    if found is None:
        if len(_filters) >= 256:
            _filters.clear()
        sql = None if regex else _sql_of(on_stream, prefixes)
        found = _filters[key] = EventFilter(on_stream, _acceptor(regex, prefixes), sql)
    return found


def index_filter(index: str) -> EventFilter:
    """Return the filter behind ``$idx-all``, ``$idx-ce-<category>``, ``$idx-et-<type>``: a scan of
    ``$all``, which on one node needs no index of its own."""
    if index == INDEX_PREFIX + "all":
        return DEFAULT
    kind, _, wanted = index.removeprefix(INDEX_PREFIX).partition("-")
    if not wanted or kind not in ("ce", "et"):
        raise index_not_found(index)
    if kind == "et":
        return _Index(False, lambda event_type: event_type == wanted, None)
    # A category ends at the first dash, and so has none in it.
    start = wanted + "-"
    return _Index(True, lambda stream: "-" not in wanted and stream.startswith(start), None)


_WRITTEN = re.compile(r"\\.|\(\?<(?![=!])", re.DOTALL)
_OF_NET = {"(?<": "(?P<", r"\z": r"\Z", r"\Z": r"(?=\n?\Z)"}
"""What .NET writes otherwise than Python: named groups, and the end of the text."""


def _acceptor(regex: str, prefixes: tuple[str, ...]) -> Callable[[str], bool]:
    if not regex:
        return lambda name: name.startswith(prefixes)
    if len(regex) > _MAX_REGEX:
        raise invalid_argument("The filter's regular expression is too long.")
    check_backtracking(regex)
    try:
        pattern = re.compile(_WRITTEN.sub(lambda found: _OF_NET.get(found[0], found[0]), regex))
    except (re.error, OverflowError, RecursionError) as error:
        told = f"Invalid pattern '{regex[:200]}': {error}. A pattern must be valid in both .NET and"
        rest = "Python, which does not support classes of Unicode such as \\p{Lu}."
        raise invalid_argument(shown(f"{told} {rest}")) from error
    # Searched, not matched whole: "^a|b|c$" is anchored at its two ends only.
    return lambda name: pattern.search(name) is not None


def _sql_of(on_stream: bool, prefixes: tuple[str, ...]) -> str | None:
    """Return a condition on ``events``; None where SQL does not hold all of it."""
    distinct = dict.fromkeys(prefixes)
    if not 0 < len(distinct) <= _MAX_PREFIXES:
        return None
    begins = " OR ".join(map(_begins, distinct))
    if "\0" in begins or len(begins) > _MAX_SQL:
        return None
    table, number = ("streams", "stream") if on_stream else ("types", "type")
    named = f"SELECT 1 FROM {table} n WHERE n.id = events.{number} AND ({begins})"
    return f"flags & {FLAG_HIDDEN} = 0 AND EXISTS ({named})"


def _begins(prefix: str) -> str:
    """Names are compared by their UTF-8 bytes, which have the order of their characters."""
    quoted = prefix.replace("'", "''")
    least = f"n.name >= '{quoted}'"
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return least
    last = ord(stem[-1]) + 1
    behind = stem[:-1] + chr(0xE000 if last == 0xD800 else last)  # half a pair is no character
    beyond = behind.replace("'", "''")
    return f"({least} AND n.name < '{beyond}')"


_NESTED = re.compile(r"\((?:[^()\\]|\\.)*[+*](?:[^()\\]|\\.)*\)(?:[+*]|\{\d+,)")


def check_backtracking(regex: str) -> None:
    """Refuse a repeated group that itself repeats: ``(a+)+`` takes exponential time on a name that
    almost matches, and would hold up every other client meanwhile."""
    if _NESTED.search(regex):
        raise invalid_argument(
            "The filter's regular expression repeats a group that itself repeats; "
            "that can take exponential time."
        )


def filter_of(options: FilterOptions) -> EventFilter:
    """Return the filter in a request; raise ``INVALID_ARGUMENT`` where it makes no sense."""
    kind = options.WhichOneof("filter")
    if kind is None:
        raise invalid_argument("'filter' is a required argument of FilterOptions")
    on_stream = kind == "stream_identifier"
    expression = options.stream_identifier if on_stream else options.event_type
    prefixes = tuple(expression.prefix)
    if not expression.regex and not prefixes:
        raise invalid_argument("A filter needs a regular expression or prefixes.")
    if on_stream and not expression.regex and any(p.startswith(INDEX_PREFIX) for p in prefixes):
        if len(prefixes) > 1:
            raise invalid_argument("An index is read alone: give one prefix.")
        return index_filter(prefixes[0])
    return make_filter(on_stream, expression.regex, prefixes)
