"""Reactors at work: events shared by consumers, each tried until it is done or parked."""
