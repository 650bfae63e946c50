"""A whole market on this machine: chain, contracts, keys, market, two providers, and a job."""
