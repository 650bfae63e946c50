"""A job: as a person describes it, as it travels, and as this machine remembers it."""
