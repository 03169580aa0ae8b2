"""Domains that hypothesis generates: field types with values, messages, whole domains."""
