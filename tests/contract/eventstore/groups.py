"""A persistent subscription of the client's, alike for a stream and for ``$all``."""

from functools import partial
from typing import Any

from kurrentdbclient import KurrentDBClient


class Group:
    """Named as its stream. On ``$all`` tests pass ``only`` to be given that stream alone."""

    def __init__(self, client: KurrentDBClient, name: str, on_all: bool) -> None:
        self.on_all = on_all
        self.only: dict[str, Any] = {}
        where: dict[str, Any] = {"group_name": name}
        if on_all:
            self.only = {"filter_include": (name,), "filter_by_stream_name": True}
        else:
            where["stream_name"] = name
        kind = "all" if on_all else "stream"
        self.create = partial(getattr(client, f"create_subscription_to_{kind}"), **where)
        self.update = partial(getattr(client, f"update_subscription_to_{kind}"), **where)
        self.read = partial(getattr(client, f"read_subscription_to_{kind}"), **where)
        self.info = partial(client.get_subscription_info, **where)
        self.replay = partial(client.replay_parked_events, **where)
        self.delete = partial(client.delete_subscription, **where)

    def text(self, position: int) -> str:
        """A position as the server writes it."""
        return f"C:{position}/P:{position}" if self.on_all else str(position)
