"""Redis or Valkey as a read store: rows, lists and checkpoints of a view in one slot."""
