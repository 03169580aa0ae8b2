"""What authors run before a release: new code against what is on the log."""
