"""What the consumer's side does for one job, from the signed bid to the settled lease."""
