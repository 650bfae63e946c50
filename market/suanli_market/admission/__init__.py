"""What becomes of a paper that arrives: checked, logged, acknowledged."""
