"""The `rayfold` command line."""

from deploy.cli.command_line import main

__all__ = ["main"]
