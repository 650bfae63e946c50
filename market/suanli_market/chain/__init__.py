"""The market's side of the chain: what it writes there, what it reads, what it makes of it."""
