"""The reference domain: orders and the stock that they are filled from."""
