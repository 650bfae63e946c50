"""The book and its rounds: which bid gets which offer, and why another did not."""
