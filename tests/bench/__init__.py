"""Benchmarks: each figure beside its alternatives, measured in one run on one machine. `make bench` runs them all."""
