"""What the market does not deal in, whoever asks for it."""

from __future__ import annotations

from rayfold import (
    Command,
    CommandContext,
    Forbidden,
    Middleware,
    Origin,
    ProceedCommand,
    Receipt,
    Rejected,
)
from tests.integration.console.market.orders import AddItem, SendParcel

CONTRABAND = "contraband"
"""An item that writers may not put in."""

NOBODY = "nobody"
"""A customer to whom no parcel goes."""


class Customs(Middleware, name="customs"):
    """Looks into what clients put in, and at where a process sends it."""

    async def command(
        self, command: Command, context: CommandContext, proceed: ProceedCommand
    ) -> Receipt:
        if (
            isinstance(command, AddItem)
            and command.sku == CONTRABAND
            and not context.may("smuggle")
        ):
            raise Forbidden(CONTRABAND, f"{context.principal} may not deal in that")
        from_process = context.origin is Origin.PROCESS
        if from_process and isinstance(command, SendParcel) and command.to == NOBODY:
            raise Rejected("no-address", f"{context.principal} sends to nobody")
        return await proceed(command)
