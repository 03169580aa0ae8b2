"""``Operations``: what administrators call. One node has little to do, and says so politely."""

import os
import signal
import uuid
from typing import Any

from eventstore.embedded.persistent.subsystem import Groups
from eventstore.embedded.protocol.call import Call, parse
from eventstore.embedded.protocol.errors import scavenge_not_found
from eventstore.embedded.rpc.dynamic_messages import ScavengeResp, StopScavengeReq

_STOPPED = 2


class OperationsHandlers:
    """Scavenges end at once (nothing is ever removed); a leader that is alone stays one."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    async def restart_groups(self, raw: bytes, call: Call) -> bytes:
        """Restart all groups, as ``PersistentSubscriptions.RestartSubsystem``."""
        await self._groups.restart()
        return b""

    async def scavenge(self, raw: bytes, call: Call) -> bytes:
        """Answer that it started and is over."""
        answer = ScavengeResp(scavenge_id=str(uuid.uuid4()), scavenge_result=_STOPPED)
        return answer.SerializeToString()

    async def stop_scavenge(self, raw: bytes, call: Call) -> bytes:
        """Answer that none is running: none ever is."""
        request: Any = parse(StopScavengeReq, raw)
        raise scavenge_not_found(request.options.scavenge_id)

    async def nothing(self, raw: bytes, call: Call) -> bytes:
        """Do nothing, for MergeIndexes, ResignNode, SetNodePriority."""
        return b""

    async def shutdown(self, raw: bytes, call: Call) -> bytes:
        """Stop, as on SIGTERM."""
        os.kill(os.getpid(), signal.SIGTERM)
        return b""
