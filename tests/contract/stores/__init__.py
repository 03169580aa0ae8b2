"""What every read store does alike: `RAYFOLD_CONTRACT_STORE=name=url` runs it over another one."""
