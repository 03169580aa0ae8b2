"""Rows as documents: what stores share that keep a row as the document that is served."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel

from projections.errors import ProjectionError
from rayfold import VersionedRow, ViewDefinition


class RowTooLarge(ProjectionError, ValueError):
    """The store is not given a row of that size: it is parked."""


def fingerprint(store: str, layout: int, view: ViewDefinition) -> str:
    """Return a text that changes with whatever makes a generation useless.

    `layout` is of the way in which the store keeps rows.
    """
    text = f"{store} {layout} {view.fingerprint}"
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def read_document(
    model: type[BaseModel], body: bytes, revision: int, position: int, started: int
) -> VersionedRow:
    """Return the row that `rayfold.document` gave this body of; see `rayfold.field_types`.

    Raises:
        ValueError: the model does not read it.
    """
    fields = body[: body.rindex(b',"revision":')] + b"}"
    row = model.__pydantic_validator__.validate_json(fields, extra="ignore")
    return VersionedRow(row, revision, position, started)
