"""What the processes of a running stack share: calls from socket to socket, batches, collection.

The vocabulary does not know it.
"""
