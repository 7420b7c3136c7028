"""The profile of an account, composed of stored fields, for every store."""

from collections.abc import Mapping
from typing import Any

from retinue.errors import StoreUnavailable
from retinue.model import Direction, Profile

_TEXTS = ("bio_description", "avatar_url", "bio_url")
_NUMBERS = ("is_verified", "likes_count", "video_count")  # booleans may be stored as numbers


def profile_of(display_name: str, fields: Mapping[str, Any], counts: Mapping[Direction, int]) -> Profile:
    """Return a profile; missing fields are empty, false or zero. Raises `StoreUnavailable` for invalid values."""
    texts = [fields.get(field, "") for field in _TEXTS]
    numbers = [fields.get(field, 0) for field in _NUMBERS]
    for field, value in zip((*_TEXTS, *_NUMBERS), (*texts, *numbers), strict=True):
        is_right = type(value) is str if field in _TEXTS else isinstance(value, int) and value >= 0
        if not is_right:
            raise StoreUnavailable(f"table profile, field {field}: has an invalid value; it is damaged")
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
