"""The market: admission, book, rounds, the chain writer, the relay."""
