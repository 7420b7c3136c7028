"""An account as itself, put together from what a store says of it; the same for every store."""

from collections.abc import Mapping
from typing import Any

from retinue.errors import StoreUnavailable
from retinue.model import Direction, Profile

_TEXTS = ("bio_description", "avatar_url", "bio_url")
_NUMBERS = ("is_verified", "likes_count", "video_count")  # truth values may be stored as numbers


def profile_of(display_name: str, said: Mapping[str, Any], counts: Mapping[Direction, int]) -> Profile:
    """The profile; what is not said is empty, false or zero. Raises `StoreUnavailable` for values of other types."""
    texts = [said.get(field, "") for field in _TEXTS]
    numbers = [said.get(field, 0) for field in _NUMBERS]
    for field, value in zip((*_TEXTS, *_NUMBERS), (*texts, *numbers), strict=True):
        is_right = type(value) is str if field in _TEXTS else isinstance(value, int) and value >= 0
        if not is_right:
            raise StoreUnavailable(f"table profile, field {field}: is no value that it can have; it is damaged")
    bio_description, avatar_url, bio_url = texts
    is_verified, likes_count, video_count = numbers
    return Profile(
        display_name=display_name,
        bio_description=bio_description,
        avatar_url=avatar_url,
        bio_url=bio_url,
        is_verified=bool(is_verified),
        likes_count=likes_count,
        video_count=video_count,
        following_count=counts[Direction.FOLLOWING],
        follower_count=counts[Direction.FOLLOWERS],
    )
