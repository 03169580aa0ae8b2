"""The user's domain and what its views need, imported once for all actors of one `rayfold up`.

Such a stack is not upgraded, but stopped and started again. A release that an upgrade brings to a
cluster has a runtime environment or an image; its actors are not forked.
"""

import os
from contextlib import suppress

from deploy.raylet.fork_server import DOMAIN
from projections.errors import NoSuchStore
from projections.stores.known import imported
from rayfold.runtime.identity import domain_hash
from rayfold.runtime.node_domain import load_domain

registry = load_domain(os.environ[DOMAIN])
domain_hash(registry)
for store in {store for view in registry.views.values() for store in view.stores} - {"memory"}:
    with suppress(NoSuchStore):  # whoever makes the store reports it
        imported(store)
