"""What the processes of a running stack share: direct calls over sockets, batching, and so on.

The vocabulary does not import it.
"""
