"""The handlers: a file an RPC, from a request's bytes to an operation or a page, and back."""
