"""A market whose views, processes and publications can be broken, for the tests of the console."""
