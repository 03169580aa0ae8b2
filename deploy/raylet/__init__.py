"""Raylets: starting one with less than Ray needs, waiting for it, and watching it."""
