"""Readers of a graph: pages and profiles, caches, the row file, and reads of a whole graph."""
