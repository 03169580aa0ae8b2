"""Refunds: a domain whose commands and queries ask for permissions."""

from __future__ import annotations

from collections.abc import Iterable

from rayfold import Aggregate, Command, Event, Message, PageQuery, Query, Route, View, on, starts


class AskForRefund(Command, name="ask-for-refund", creates=True):
    refund_id: str


class GrantRefund(Command, name="grant-refund", needs="refunds:grant"):
    refund_id: str


class RefundAsked(Event, name="RefundAsked"):
    refund_id: str


class RefundGranted(Event, name="RefundGranted"):
    refund_id: str


class RefundState(Message):
    granted: bool = False


class Refund(
    Aggregate[RefundState, AskForRefund | GrantRefund, RefundAsked | RefundGranted],
    category="refund",
    initial=RefundState(),
    id_field="refund_id",
):
    @staticmethod
    def decide(
        state: RefundState, command: AskForRefund | GrantRefund
    ) -> Iterable[RefundAsked | RefundGranted]:
        if isinstance(command, GrantRefund):
            yield RefundGranted(refund_id=command.refund_id)
        else:
            yield RefundAsked(refund_id=command.refund_id)

    @staticmethod
    def evolve(state: RefundState, event: RefundAsked | RefundGranted) -> RefundState:
        return RefundState(granted=isinstance(event, RefundGranted))


class Refunds(View, name="refunds", key="refund_id", indexes=("granted",)):
    refund_id: str
    granted: bool = False

    @staticmethod
    @starts(RefundAsked)
    def asked(event: RefundAsked) -> Refunds:
        return Refunds(refund_id=event.refund_id)

    @staticmethod
    @on(RefundGranted)
    def granting(row: Refunds, event: RefundGranted) -> Refunds:
        return row.replace(granted=True)


class GetRefund(Query, name="get-refund", view=Refunds, needs="refunds:read"):
    refund_id: str


class RefundName(Query, name="refund-name", view=Refunds):
    refund_id: str


class ListRefunds(
    PageQuery, name="list-refunds", view=Refunds, needs="refunds:list", newest_first=True
):
    granted: bool | None = None


routes = [
    Route("POST", "/refunds", AskForRefund),
    Route("POST", "/refunds/{refund_id}/grant", GrantRefund),
    Route("GET", "/refunds/{refund_id}", GetRefund),
    Route("GET", "/refunds", ListRefunds),
]
