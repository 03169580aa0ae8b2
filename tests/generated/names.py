"""Names of fields: everything of ours, words of SQL, and what else an identifier may be."""

from __future__ import annotations

_TEXT = """
    abstract apply category commands creates cursor data decide delivery document encode event
    event_type events evolve fold fold_version folds handle handlers id_field indexes initial key
    key_of keys_of limit mistakes model name on_poison owner placement position projection replace
    result row row_type schema server_supplied snapshot_every started starts state state_type
    statement statements stores stream type version view views
    at least most covered
    copy dict json order select user table desc index primary from_ αβγ CamelCase
"""

NAMES = _TEXT.split()

PAGE_OWN = ("limit", "cursor")
"""Names that a query for pages has for itself."""
