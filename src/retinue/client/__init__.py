"""A client for TikTok's Research API and for Retinue.

from retinue.client import Client

with Client("key", "secret", "http://127.0.0.1:8642") as client:
    for person in client.following("test_user"):
        print(person.username)
"""

from retinue.client.clients import TIKTOK, AsyncClient, Client, Runtime
from retinue.client.errors import AccountUnavailable, BrokenList, ClientError, DailyQuotaExceeded, GaveUp, Refused
from retinue.client.listing import AsyncListing, Listing
from retinue.client.paginator import ListCount
from retinue.client.protocol import RetryPolicy
from retinue.client.responses import ListPage, Person, UserInfo
from retinue.errors import InputError

__all__ = [
    "TIKTOK",
    "AccountUnavailable",
    "AsyncClient",
    "AsyncListing",
    "BrokenList",
    "Client",
    "ClientError",
    "DailyQuotaExceeded",
    "GaveUp",
    "InputError",
    "ListCount",
    "ListPage",
    "Listing",
    "Person",
    "Refused",
    "RetryPolicy",
    "Runtime",
    "UserInfo",
]
