"""Retinue serves a follow graph through TikTok's Research API contract of *Query User Following*.

This package imports nothing by itself; start reading at `docs/architecture.md`.
"""
