"""`make bench`: Rayfold and two baselines on the same work, in interleaved rounds."""
