"""What helps the authors of a domain, before a release and without a stack."""
