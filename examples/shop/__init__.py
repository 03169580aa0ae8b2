"""A small shop, as a user would bring one: `RAYFOLD_DOMAIN=examples.shop rayfold up`.

It has what the reference domain does not need: a custom SQL projection, views whose events
are shared by competing consumers, and a composed query. How-tos in `docs/` show it.
"""
