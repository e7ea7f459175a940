"""What follows from a study: claims, the numbers behind them, and whether these support or refute them."""
