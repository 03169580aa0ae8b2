"""A raylet: how one is started for less than Ray takes, waited for, and watched."""
