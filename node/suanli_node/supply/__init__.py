"""What this node sells: its inventory, its offers, and the money behind them."""
