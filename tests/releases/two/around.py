"""What is around the commands of the second release."""

from __future__ import annotations

from rayfold import Command, CommandContext, Middleware, ProceedCommand, Receipt, Rejected
from tests.releases.two.accounts import Deposit


class Limits(Middleware, name="limits"):
    """Nobody puts in nothing either."""

    async def command(
        self, command: Command, context: CommandContext, proceed: ProceedCommand
    ) -> Receipt:
        if isinstance(command, Deposit) and command.cents < 1:
            raise Rejected("nothing", "release two takes something")
        return await proceed(command)
