"""Running reactors: consumers share events, and try each until it is done or parked."""
