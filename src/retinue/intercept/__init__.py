"""Run a command with TikTok's hosts led to a Retinue server."""
