"""Scheduled commands: accepted by gateways, stored on the log, sent by one process of the stack."""
