"""What `retinue run` is made of: a command whose requests to TikTok's hosts come to a server of ours instead."""
