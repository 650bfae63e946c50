"""Direct deals: leases that a consumer opened itself, served by the node without any market."""
