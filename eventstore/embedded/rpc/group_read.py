"""``PersistentSubscriptions.Read``: messages out, acknowledgements in."""

import asyncio

from kurrentdbclient.protos.v1 import persistent_pb2

from eventstore.embedded.persistent.consumer import Consumer
from eventstore.embedded.persistent.group import Group
from eventstore.embedded.persistent.subsystem import Groups
from eventstore.embedded.protocol.call import Call, parse
from eventstore.embedded.protocol.errors import handler_failed
from eventstore.embedded.rpc.groups import stream_of
from eventstore.embedded.rpc.read_pages import send_bounded
from eventstore.embedded.rpc.requests import uuid_bytes

Request = persistent_pb2.ReadReq
Nack = Request.Nack


class GroupReadHandler:
    """Connect one consumer until it goes away or is dropped."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    async def __call__(self, call: Call) -> None:
        """Serve one consumer."""
        raw = await call.read()
        first = parse(Request, raw) if raw is not None else Request()
        options = first.options
        uuid_option = options.uuid_option.WhichOneof("content")
        if first.WhichOneof("content") != "options" or uuid_option is None:
            raise handler_failed()
        consumer = Consumer(
            max(options.buffer_size, 1),
            uuid_option == "structured",
            call.peer,
            call.header("connection-name") or "<unknown>",
        )
        stream = stream_of(options)
        self._groups.check_room(stream, options.group_name)
        confirmation = persistent_pb2.ReadResp()
        confirmation.subscription_confirmation.subscription_id = f"{stream}::{options.group_name}"
        await call.write(confirmation.SerializeToString())
        group = self._groups.join(stream, options.group_name, consumer)
        answers = asyncio.create_task(_take_answers(call, group))
        sending = asyncio.create_task(_send(call, consumer))
        try:
            # A half-close does not end the call: acknowledgements may end while sending goes on.
            await asyncio.wait((answers, sending), return_when=asyncio.FIRST_EXCEPTION)
            if answers.done() and answers.exception() is not None:
                answers.result()
            await sending
        finally:
            for task in (answers, sending):
                task.cancel()
            group.leave(consumer)
            await asyncio.gather(answers, sending, return_exceptions=True)


async def _send(call: Call, consumer: Consumer) -> None:
    while True:
        await send_bounded(call, await consumer.take())


async def _take_answers(call: Call, group: Group) -> None:
    while (raw := await call.read()) is not None:
        request = parse(Request, raw)
        kind = request.WhichOneof("content")
        if kind == "ack":
            group.ack([uuid_bytes(value) for value in request.ack.ids])
        elif kind == "nack":
            nack = request.nack
            ids = [uuid_bytes(value) for value in nack.ids]
            if nack.action == Nack.Park:
                group.nack_park(ids, nack.reason)
            elif nack.action in (Nack.Skip, Nack.Stop):
                group.ack(ids)
            else:
                group.nack_retry(ids)
