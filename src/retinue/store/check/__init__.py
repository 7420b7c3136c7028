"""Verification of a whole graph: every invariant of accounts and lists."""
