"""Process managers at work: what they are told, what they decide, and what becomes of it."""
