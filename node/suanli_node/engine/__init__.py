"""The engine: a keyless Ray host, the runs in it, and what a run needs and leaves."""
