"""How the command line looks and speaks."""
