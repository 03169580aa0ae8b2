"""What `rayfold new` writes: `example/` under the new name, and its tests. It is checked here."""
