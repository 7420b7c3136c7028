"""Clients, tokens and quotas: which calls are allowed."""
