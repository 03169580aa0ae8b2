"""The tests. As a package they find what is beside them, however pytest is started."""
