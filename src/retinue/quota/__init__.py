"""Quota counters of clients, in a file and for a cluster."""
