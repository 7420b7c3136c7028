"""Retinue serves a follow graph through TikTok's endpoint *Query User Following*.

`docs/architecture.md` is the place to start reading.
"""
