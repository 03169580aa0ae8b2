"""Imports shared by all actors: Ray, what libraries import when first used, and our modules."""
# ruff: noqa: F401

from grpc import _channel
from pydantic import type_adapter
from pydantic.deprecated import config
from ray._common import pydantic_compat
from ray._common.usage import usage_lib
from ray._private import arrow_serialization
from ray._private.workers import default_worker

from actors.host import host_actor
from actors.processes import process_actor
from projections.memory import replica_actor
from projections.postgres import store
from projections.stores import projector_actor, supervisor
