"""Domains that hypothesis makes up: field types with values of theirs, messages, whole domains."""
