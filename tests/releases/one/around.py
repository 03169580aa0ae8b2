"""What is around the commands of the first release."""

from __future__ import annotations

from rayfold import Command, CommandContext, Middleware, ProceedCommand, Receipt, Rejected
from tests.releases.one.accounts import Deposit


class Limits(Middleware, name="limits"):
    """Nobody puts in less than nothing."""

    async def command(
        self, command: Command, context: CommandContext, proceed: ProceedCommand
    ) -> Receipt:
        if isinstance(command, Deposit) and command.cents < 0:
            raise Rejected("less-than-nothing", "release one takes no debts")
        return await proceed(command)
