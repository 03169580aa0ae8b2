"""Rows as documents: shared by stores that keep a row as the document that is served."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel

from projections.errors import ProjectionError
from rayfold import VersionedRow, ViewDefinition


class RowTooLarge(ProjectionError, ValueError):
    """A row is too large for the store: it is parked."""


def fingerprint(store: str, layout: int, view: ViewDefinition) -> str:
    """Return a text that changes whenever existing generations become unusable.

    `layout` is the version of the store's row format.
    """
    text = f"{store} {layout} {view.fingerprint}"
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def read_document(
    model: type[BaseModel], body: bytes, revision: int, position: int, started: int
) -> VersionedRow:
    """Return the row from the document that `rayfold.document` made; see `rayfold.field_types`.

    Raises:
        ValueError: the model does not accept it.
    """
    fields = body[: body.rindex(b',"revision":')] + b"}"
    row = model.__pydantic_validator__.validate_json(fields, extra="ignore")
    return VersionedRow(row, revision, position, started)
