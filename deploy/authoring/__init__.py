"""What helps the author of a domain while it is written, without a stack."""
