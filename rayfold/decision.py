"""Decisions over several aggregates: one command, several streams, all or nothing.

    class Redeem(
        Decision[RedeemCoupon],
        reads={"coupon": Coupon, "customer": Customer},
    ):
        @staticmethod
        def decide(states, command):
            if states["coupon"].left == 0:
                raise Rejected("coupon-used-up", "it was redeemed as often as it may be")
            return [
                CouponRedeemed(coupon_id=command.coupon_id, customer_id=command.customer_id),
                RedemptionNoted(customer_id=command.customer_id, coupon_id=command.coupon_id),
            ]

The field calls it a dynamic consistency boundary. Its events are appended only if no
stream that it has read, written to or not, has changed since.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, get_args, get_origin

from pydantic.fields import FieldInfo

from rayfold.aggregate import Aggregate, AggregateType, union_members
from rayfold.declarations import arguments_of, keywords_of, miscalled
from rayfold.keys import key_text, may_be_none, scalar_of
from rayfold.messages import Command, Event

C = TypeVar("C", bound=Command)

MAX_READS = 16
"""The number of aggregates that one command may read: each is a check in the append, and is
folded in memory."""


@dataclass(frozen=True)
class Read:
    """An aggregate that a decision reads, and which instance of it: `Read(Account, by="payer")`.

    `by` is a field of the commands, or a function that returns the id for a command. An aggregate
    that is given without `Read` is found by the field named like its `id_field`.
    """

    aggregate: AggregateType
    by: str | Callable[[Any], object]

    def id_in(self, command: Command) -> object:
        """Return the id of the instance that a command refers to.

        Raises:
            Exception: whatever the author's function raises.
        """
        found = getattr(command, self.by) if isinstance(self.by, str) else self.by(command)
        if isinstance(found, Collection) and not isinstance(found, str | bytes):
            raise TypeError(f"by= of a Read gives one id, not a {type(found).__name__}: ReadMany")
        return found


@dataclass(frozen=True)
class ReadMany:
    """Aggregates of one kind that a decision reads: `ReadMany(Night, by="nights")`.

    `by` is a field of the commands that holds their ids, or a function that makes the ids from the
    command. `decide` gets a dictionary of their states by these ids, in their order, those of a set
    in the order of their texts. An id that comes twice counts once; there may be none.
    """

    aggregate: AggregateType
    by: str | Callable[[Any], Iterable[object]]

    def ids_in(self, command: Command) -> Iterator[object]:
        """Yield the ids of the instances that a command means, each once.

        They are taken one by one: a command may mean more than anybody wants to list.

        Raises:
            Exception: whatever the author's function raises.
        """
        ids = getattr(command, self.by) if isinstance(self.by, str) else self.by(command)
        if isinstance(ids, str | bytes | Mapping):
            raise TypeError(f"by= of a ReadMany gives several ids, not a {type(ids).__name__}")
        if isinstance(ids, Set):  # its order differs between processes
            ids = sorted(ids, key=key_text)
        seen = set()
        for each in ids:
            if each not in seen:
                seen.add(each)
                yield each


class Instance(NamedTuple):
    """One aggregate of a decision: the decision's name for it, its stream, and its id.

    The id is as the command has it.
    """

    name: str
    aggregate: AggregateType
    stream: str
    id: object = None


def unfit(instances: Sequence[Instance]) -> str | None:
    """Return a sentence if there are too many instances, or two of them have the same stream.

    Then nothing is decided.
    """
    if len(instances) > MAX_READS:
        return f"it names more than {MAX_READS} aggregates, the most that a decision may read"
    named: dict[str, Instance] = {}
    for each in instances:
        other = named.setdefault(each.stream.lower(), each)
        if other is not each:
            # The store tells streams apart without their case where it checks several together.
            how = "the same" if other.stream == each.stream else "the same but for their case"
            if other.name == each.name:
                return f"two of {each.name} are {how}: {each.stream!r}"
            return f"{other.name} and {each.name} are {how}: {each.stream!r}"
    return None


@dataclass(frozen=True, eq=False)
class DecisionDefinition:
    """What a decision declares; see `Decision` for the keywords."""

    model: type[Decision[Any]]
    declared: Mapping[str, Any]
    commands: tuple[type[Command], ...]

    @cached_property
    def reads(self) -> dict[str, Read | ReadMany]:
        """The aggregates it reads, by the decision's own names, the leading one first."""
        return {
            name: each if isinstance(each, Read | ReadMany) else Read(each, each.id_field)
            for name, each in self.declared.items()
        }

    @cached_property
    def lead(self) -> Read | ReadMany:
        """The aggregate whose writer decides, and whose stream and revision the receipt has.

        It is a `Read`, if the declaration has no mistakes.
        """
        return next(iter(self.reads.values()))

    @cached_property
    def aggregates(self) -> tuple[AggregateType, ...]:
        """The aggregates it reads, each once."""
        return tuple(dict.fromkeys(each.aggregate for each in self.reads.values()))

    @property
    def mentioned(self) -> list[Any]:
        """The aggregates that the author has given in `reads`, valid or not."""
        if not isinstance(self.declared, Mapping):
            return []
        return [
            each.aggregate if isinstance(each, Read | ReadMany) else each
            for each in self.declared.values()
        ]

    @cached_property
    def aggregate_of(self) -> dict[type[Event], AggregateType]:
        """The aggregate of each event type that the decision may return."""
        return {event: each for each in self.aggregates for event in each.events}

    def instances(self, command: Command, tenant: str = "") -> tuple[Instance, ...]:
        """Return the instances that a command refers to, the leading one first; all of one tenant.

        Raises:
            Exception: whatever the author's `by` raises.
        """
        found = []
        for name, read in self.reads.items():
            kind = read.aggregate
            ids = read.ids_in(command) if isinstance(read, ReadMany) else [read.id_in(command)]
            found += [
                Instance(name, kind, kind.stream(each, tenant), each)
                for each in islice(ids, MAX_READS + 1)  # a client may name 100,000: see `unfit`
            ]
        return tuple(found)

    def states_for(
        self, instances: Iterable[Instance], state_of: Callable[[Instance], Any]
    ) -> dict[str, Any]:
        """Return what `decide` is given: the states of the instances, by the decision's names."""
        states: dict[str, Any] = {
            name: {} for name, read in self.reads.items() if isinstance(read, ReadMany)
        }
        for each in instances:
            if isinstance(self.reads[each.name], ReadMany):
                states[each.name][each.id] = state_of(each)
            else:
                states[each.name] = state_of(each)
        return states

    def instance_of(
        self, event: Event, instances: tuple[Instance, ...], tenant: str = ""
    ) -> Instance:
        """Return the instance that an event belongs to. All instances are of `tenant`.

        Raises:
            ValueError: it belongs to none of them.
        """
        kind = type(event).__qualname__
        aggregate = self.aggregate_of.get(type(event))
        if aggregate is None:
            raise ValueError(
                f"decide yields a {kind}, which is not among the events of "
                + ", ".join(each.__qualname__ for each in self.aggregates)
            )
        stream = aggregate.stream(getattr(event, aggregate.id_field), tenant)
        for each in instances:
            if each.stream == stream:
                return each
        raise ValueError(
            f"decide yields a {kind} for {stream!r}, which it did not read: "
            + ", ".join(repr(each.stream) for each in instances)
        )

    def mistakes(self) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        cls, name = self.model, self.model.__qualname__
        found = []
        if not self.commands:
            found.append(f"{name} must derive from Decision[Commands]")
        if cls.decide is Decision.decide:
            found.append(f"{name} needs a static method `decide`")
        else:
            found += miscalled(f"{name}.decide", cls.decide, "states", "command")
        for command in self.commands:
            found += command.__rayfold__.mistakes()
        if not isinstance(self.declared, Mapping) or not self.declared:
            found.append(f'{name} needs reads={{"…": Aggregate}}, the aggregates that it reads')
            return found
        if len(self.declared) > MAX_READS:
            found.append(f"{name} reads {len(self.declared)} aggregates, at most {MAX_READS} fit")
        wrong = [
            f"{name} reads {each!r} as {known!r}, which is not an aggregate"
            for known, each in zip(self.declared, self.mentioned, strict=True)
            if not _is_aggregate(each)
        ]
        wrong += [
            f"{name}: what it reads is called by a name, not {known!r}"
            for known in self.declared
            if not (isinstance(known, str) and known.isidentifier())
        ]
        return found + (wrong or [*self._mistakes_of_ids(), *self._mistakes_of_events()])

    def _mistakes_of_ids(self) -> Iterable[str]:
        cls = self.model.__qualname__
        for known, read in self.reads.items():
            where = f"{cls} reads {read.aggregate.__qualname__} as {known!r}"
            if not isinstance(read.by, str):
                if not callable(read.by):
                    yield f"{where} by {read.by!r}, which is neither a field nor a function"
                continue
            for command in self.commands:
                info = command.model_fields.get(read.by)
                name = f"{command.__qualname__}.{read.by}"
                if info is None:
                    yield (
                        f"{where} by {read.by!r}, which is not a field of {command.__qualname__}: "
                        f"say {type(read).__name__}({read.aggregate.__qualname__}, by=…)"
                    )
                elif isinstance(read, ReadMany):
                    if (held := _ids_in(info)) is None:
                        yield f"{name} cannot be ids: not a list of scalars"
                    elif may_be_none(held):
                        yield f"{name} may hold None, but an id always has a value: remove None"
                elif scalar_of(info) is None:
                    yield (
                        f"{name} cannot be an id: not a scalar"
                        + ("" if _ids_in(info) is None else ", write ReadMany")
                    )
                elif may_be_none(info):
                    yield f"{name} may be None, but an id always has a value: remove None"
        if isinstance(self.lead, ReadMany):
            yield (
                f"{cls} reads many as {next(iter(self.reads))!r}, and the first leads: "
                "name one before that is read alone"
            )
        for one, other in _pairs(self.reads):
            if self.reads[one] == self.reads[other]:
                yield f"{cls} reads the same as {one!r} and as {other!r}: remove one"

    def _mistakes_of_events(self) -> Iterable[str]:
        for event, aggregate in self.aggregate_of.items():
            for other in self.aggregates:
                if other is not aggregate and event in other.events:
                    yield (
                        f"{self.model.__qualname__} reads {other.__qualname__} and "
                        f"{aggregate.__qualname__}, and {event.__qualname__} is an event of both: "
                        "it could not tell for which"
                    )


class Decision(ABC, Generic[C]):
    """Decides over several aggregates: `class Redeem(Decision[RedeemCoupon], reads={…})`.

    The type argument is the union of its commands, which must not belong to an aggregate. Class
    keyword:

    - `reads`: the aggregates that it reads, under names of its choice. The instance is that of the
      command's field named like the aggregate's `id_field`, or as `Read(Aggregate, by=…)` says;
      `ReadMany(Aggregate, by=…)` reads several. The first aggregate leads: its single writer
      decides, and the receipt, `ETag` and `If-Match` are about its stream. Put the aggregate first
      that most decisions contend for.
    """

    __rayfold__: ClassVar[DecisionDefinition]

    def __init_subclass__(
        cls, *, reads: Mapping[str, AggregateType | Read | ReadMany] | None = None, **kwargs: Any
    ) -> None:
        with keywords_of(cls, kwargs):
            super().__init_subclass__(**kwargs)
        cls.__rayfold__ = DecisionDefinition(cls, reads or {}, _commands_of(cls))

    @staticmethod
    @abstractmethod
    def decide(states: Any, command: C) -> Iterable[Event]:
        """Return the events that the command leads to, for any of the instances that are read.

        `states` has the state of each instance by its name in `reads`; for an aggregate that does
        not exist, the initial state; for a `ReadMany`, a dictionary of states by id. Pure and
        synchronous like `Aggregate.decide`, and run again on later states if another writer was
        faster.

        Raises:
            Rejected: a rule says no.
            NotFound: an aggregate that it needs does not exist.
        """


def _commands_of(cls: type) -> tuple[type[Command], ...]:
    for commands in arguments_of(cls, Decision):
        found = union_members(commands)
        if all(isinstance(each, type) and issubclass(each, Command) for each in found):
            return found
    return ()


def _is_aggregate(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, Aggregate)


def _ids_in(info: FieldInfo) -> FieldInfo | None:
    """Return what a field holds: a list, a tuple or a set of what can be an id; or None."""
    arguments = [each for each in get_args(info.annotation) if each is not Ellipsis]
    held = get_origin(info.annotation)
    if not (isinstance(held, type) and issubclass(held, Collection)) or issubclass(held, Mapping):
        return None
    if len(arguments) != 1:
        return None
    one = FieldInfo.from_annotation(arguments[0])
    return None if scalar_of(one) is None else one


def _pairs(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    known = list(names)
    return ((one, other) for at, one in enumerate(known) for other in known[at + 1 :])
