"""DynamoDB as a read store: rows, lists and checkpoints of views as items of one table."""
