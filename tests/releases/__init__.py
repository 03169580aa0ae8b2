"""Two releases of a domain, for upgrades: the second has one more event and a changed view."""
