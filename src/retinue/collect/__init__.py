"""Collect many lists into a folder."""
