"""Collecting many lists from a service of this contract, and keeping them."""
