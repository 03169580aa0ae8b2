"""What authors run before a release, against a real log."""
