"""An account as itself, put together from what a store says of it; the same for every store."""

from collections.abc import Mapping
from typing import Any

from retinue.model import Direction, Profile


def profile_of(display_name: str, said: Mapping[str, Any], counts: Mapping[Direction, int]) -> Profile:
    """The profile; what is not said is empty, false or zero."""
    return Profile(
        display_name=display_name,
        bio_description=str(said.get("bio_description", "")),
        avatar_url=str(said.get("avatar_url", "")),
        bio_url=str(said.get("bio_url", "")),
        is_verified=bool(said.get("is_verified", False)),
        likes_count=int(said.get("likes_count", 0)),
        video_count=int(said.get("video_count", 0)),
        following_count=counts[Direction.FOLLOWING],
        follower_count=counts[Direction.FOLLOWERS],
    )
