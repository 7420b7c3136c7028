"""The names under which TikTok's pages show the Research API. Only these are ever led to a server of ours."""

HOSTS = ("open.tiktokapis.com", "open-platform.tiktokapis.com", "platform.tiktokapis.com")
HTTPS = 443


def is_tiktok(host: str, port: int) -> bool:
    """Whether somebody who connects there wants TikTok's Research API."""
    return port == HTTPS and host.lower().rstrip(".") in HOSTS
