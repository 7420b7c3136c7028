"""Quota counters of clients: their contract, in a file, and for the machines of a cluster."""
