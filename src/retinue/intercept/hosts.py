"""The names under which TikTok's pages show the Research API. Only these are ever led to a server of ours."""

HOSTS = ("open.tiktokapis.com", "open-platform.tiktokapis.com", "platform.tiktokapis.com")
HTTPS = 443


def is_tiktok(host: str, port: int) -> bool:
    """Return whether a connection there is one to TikTok's Research API."""
    return port == HTTPS and is_tiktoks_name(host)


def is_tiktoks_name(host: str) -> bool:
    """Return whether a host is TikTok's, on whatever port."""
    return host.lower().rstrip(".") in HOSTS
