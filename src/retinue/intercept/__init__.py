"""Run a command with TikTok's hosts redirected to a Retinue server."""
