"""Commands that are sent later: taken by gateways, on the log, sent by one process of the stack."""
