"""Three listeners over one store, which play a cluster's nodes for tests. Nothing is replicated."""
