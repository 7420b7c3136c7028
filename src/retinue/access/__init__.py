"""Clients, tokens and quotas: which calls are allowed, and clients and tokens as rows of each backend."""
