"""A lease on its way through this node: verified, prepared, run, metered, signed."""
