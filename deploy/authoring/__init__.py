"""What helps an author of a domain: a first package to begin with, and a stack that follows it."""
