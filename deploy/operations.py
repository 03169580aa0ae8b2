"""What operators can do to a running stack, over both sides."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.write_side import WriteSide
from projections.read_side import ReadSide


class StackOperations:
    """See `api.operators.Operations`."""

    def __init__(self, writes: WriteSide, reads: ReadSide) -> None:
        self._writes = writes
        self._reads = reads

    async def parts(self) -> list[dict[str, Any]]:
        """See `Operations.parts`."""
        write_parts, read_parts = await asyncio.gather(self._writes.status(), self._reads.status())
        return [*write_parts, *read_parts]

    async def scale(self, target: str, count: int) -> None:
        """See `Operations.scale`."""
        if target == "write":
            await self._writes.scale(count)
        else:
            await self._reads.scale(target, count)

    async def verify(self) -> list[dict[str, Any]]:
        """See `Operations.verify`."""
        return await self._reads.verify()
