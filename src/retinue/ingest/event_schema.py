"""The forms of events that producers should write, and their JSON Schema.

`events.py` also accepts those of import files, such as numbers in text.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, json

from retinue.ingest.values import FIRST_MILLISECONDS, MAX_COUNT
from retinue.names import MAX_KEY_BYTES, MAX_USERNAME_CHARACTERS

KeyText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_KEY_BYTES,
        description=f"An account's key: printable text of at most {MAX_KEY_BYTES} bytes in UTF-8.",
    ),
]
KeyNumber = Annotated[int, Meta(description="A number is the key of its digits.")]
Key = KeyText | KeyNumber

UnixSecond = Annotated[int, Meta(ge=1, lt=FIRST_MILLISECONDS, description="When it happened: a Unix second.")]
Moment = Annotated[str, Meta(description="When it happened: an ISO 8601 time; without a zone it is UTC.")]
Second = UnixSecond | Moment

# One leading `@` does not count.
Username = Annotated[
    str, Meta(min_length=1, max_length=MAX_USERNAME_CHARACTERS + 1, description="Printable text without whitespace.")
]
VisibilityName = Literal["public", "following_hidden", "private", "withheld"]
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]


class EventForm(Struct, tag_field="event", forbid_unknown_fields=True):
    """An event of any kind. The field `event` names the kind; unknown fields are errors."""


class FollowForm(EventForm, tag="follow", gc=False):
    """An account followed another one."""

    follower: Key
    followee: Key
    at: Second


class UnfollowForm(EventForm, tag="unfollow", gc=False):
    """An account ended a follow."""

    follower: Key
    followee: Key
    at: Second


class AccountForm(EventForm, tag="account"):
    """An account was created or changed. An absent field, or null, says nothing."""

    account: Key
    at: Second
    username: Username | None = None
    display_name: str | None = None
    visibility: VisibilityName | None = None
    bio_description: str | None = None
    avatar_url: str | None = None
    bio_url: str | None = None
    is_verified: bool | None = None
    likes_count: Count | None = None
    video_count: Count | None = None


class VisibilityForm(EventForm, tag="visibility"):
    """An account's visibility changed."""

    account: Key
    visibility: VisibilityName
    at: Second


class EraseForm(EventForm, tag="erase"):
    """An account is to be forgotten, for good."""

    account: Key
    at: Second


AnyForm = FollowForm | UnfollowForm | AccountForm | VisibilityForm | EraseForm


def schema() -> dict[str, Any]:
    """Return the JSON Schema of one event."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "An event: one line of `retinue apply`"}
    # Producers see the names of the events, without the suffix of our classes.
    return head | json.decode(json.encode(json.schema(AnyForm)).replace(b'Form"', b'"'), type=dict[str, Any])
