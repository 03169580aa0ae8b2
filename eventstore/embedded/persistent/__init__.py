"""Persistent subscriptions: consumer groups whose progress the server keeps.

After KurrentDB's ``Services/PersistentSubscription``. A group is a plain synchronous state machine
on the event loop (``group.py``); parking and checkpoints are writes like any other.
"""
