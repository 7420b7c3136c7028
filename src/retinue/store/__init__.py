"""The stores: their contract, the rules, and a folder for each backend."""
