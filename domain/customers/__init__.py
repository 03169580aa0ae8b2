"""Customers: who they are, where they live, and what they allow. State-stored."""
