"""Many tenants of one stack: none of them sees, changes or notices anything of another."""
