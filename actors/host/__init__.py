"""The single writer: mailboxes, decisions, group commits, and the cache of folded aggregates."""
