"""Custom SQL projections: for read models that a keyed fold cannot express.

    class Bestsellers(SqlProjection, name="bestsellers"):
        schema = '''
            CREATE TABLE put (basket_id text, sku text, quantity bigint);
            CREATE TABLE sold (day date, sku text, quantity bigint, PRIMARY KEY (day, sku));
        '''

        @staticmethod
        @on(LinePut)
        def put(event: LinePut) -> Iterable[Statement]:
            yield sql("INSERT INTO put VALUES ($1, $2, $3)", event.basket_id, event.sku, ...)

A handler is pure: it yields statements, and Rayfold executes them, once for each event and in
the log's order, in one transaction with the projection's checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal, NamedTuple

from rayfold.declarations import keywords_of, misnamed, too_long
from rayfold.failure import OnPoison
from rayfold.folds import folds_of, mistakes_of_folds
from rayfold.messages import KEBAB, Event
from rayfold.view import MAX_NAME, OURS, policy


class Statement(NamedTuple):
    """One SQL statement. `parameters` are the values of `$1`, `$2`, …"""

    text: str
    parameters: tuple[Any, ...] = ()

    def check_tenant(self, tenant: str) -> None:
        """Check that the tenant is one of the statement's parameters.

        Whether the statement uses it rightly is up to the author: this finds a forgotten one.

        Raises:
            ValueError: the tenant is not among the parameters.
        """
        if tenant not in self.parameters:
            raise ValueError(f"a statement without its tenant is one for all: {self.text[:200]}")


def sql(text: str, *parameters: Any) -> Statement:
    """Return a statement. Pass values as `parameters`, never in the text."""
    return Statement(text, parameters)


class SqlProjection:
    """A domain's own tables in Postgres. Class keywords:

    - `name`: in kebab-case; also, with underscores, the Postgres schema that the tables are in.
    - `version`: raise it when the meaning of a handler changes; Rayfold notices a changed `schema`
      or other events itself. The new tables are then built while the old ones go on serving.
    - `on_poison`: what happens when an event's handler or statements fail: "stop" the projection
      there, or "skip" the event with all of its statements, and keep it for operators.

    `schema` creates the tables and indexes. Both it and the statements name tables without a
    schema and see no other tables: what an event leads to depends on the log alone.

    On a stack that serves tenants, the tables hold the rows of all tenants. There each handler
    takes `tenant: str = ""` beside the event, and gives it to every statement as a parameter.
    """

    name: ClassVar[str]
    schema: ClassVar[str] = ""
    version: ClassVar[int]
    on_poison: ClassVar[OnPoison]
    handlers: ClassVar[dict[type[Event], Callable[..., Iterable[Statement]]]]

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        version: int = 1,
        on_poison: OnPoison | Literal["stop", "skip"] = OnPoison.STOP,
        **kwargs: Any,
    ) -> None:
        with keywords_of(cls, kwargs):
            super().__init_subclass__(**kwargs)
        cls.name = name
        cls.version = version
        cls.on_poison = policy(on_poison)
        cls.handlers = {fold.event_type: fold.apply for _, fold in folds_of(cls)}

    @classmethod
    def mistakes(cls) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        found = misnamed(cls, cls.name, KEBAB, "kebab-case, like 'bestsellers'")
        found += too_long(cls, "name", cls.name, MAX_NAME)
        if cls.name.startswith(OURS) or cls.name in ("public", "information-schema"):
            found.append(f"{cls.__qualname__}: {cls.name!r} is taken in Postgres: choose another")
        if not cls.schema.strip():
            found.append(f"{cls.__qualname__} needs a `schema` that creates its tables")
        if any(fold.starts or fold.key_of for _, fold in folds_of(cls)):
            found.append(f"{cls.__qualname__} has no rows to start and no keys: use plain @on")
        if cls.on_poison not in (OnPoison.STOP, OnPoison.SKIP):
            found.append(
                f'{cls.__qualname__}: on_poison is "stop" or "skip", not {str(cls.on_poison)!r}'
            )
        found += mistakes_of_folds(cls, takes=("event",))
        if not cls.handlers:
            found.append(f"{cls.__qualname__} handles no event")
        return found

    @classmethod
    def statements(cls, event: Event, tenant: str = "") -> list[Statement]:
        """Return the statements for an event; none if it does not concern the projection.

        Raises:
            TypeError, ValueError: a handler yields something that is not a statement, or a
                statement without the tenant.
            Exception: whatever the author's code raises.
        """
        handler = cls.handlers.get(type(event))
        if handler is None:
            return []
        statements = list(handler(event, tenant=tenant) if tenant else handler(event))
        if not all(isinstance(each, Statement) for each in statements):
            raise TypeError(f"{cls.name}: a handler yields statements; a `return` gives none")
        for each in statements if tenant else ():
            each.check_tenant(tenant)
        return statements
