"""Scripts in Python that collect a whole list, each with another client."""

COLLECT = """
import json, os
key, secret, username = (os.environ["RETINUE_" + name] for name in ("CLIENT_KEY", "CLIENT_SECRET", "SAMPLE_USERNAME"))
API = "https://open.tiktokapis.com/v2"
FORM = {"client_key": key, "client_secret": secret, "grant_type": "client_credentials"}

def collect(post):
    token = post(API + "/oauth/token/", data=FORM)["access_token"]
    rows, query, more = [], {"username": username, "max_count": 100}, True
    while more:
        headers = {"Authorization": "Bearer " + token}
        page = post(API + "/research/user/following/", json=query, headers=headers)["data"]
        rows += page["user_following"]
        more, query["cursor"] = page["has_more"], page["cursor"]
    print(json.dumps(rows))
"""


AIOHTTP = """
import aiohttp, asyncio
def post(url, **options):
    async def answer():
        async with aiohttp.ClientSession() as session, session.post(url, **options) as response:
            return await response.json()
    return asyncio.run(answer())
collect(post)
"""


URLLIB = """
import urllib.parse, urllib.request
def post(url, data=None, json=None, headers={}):
    body = urllib.parse.urlencode(data) if data else __import__("json").dumps(json)
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers)) as answer:
        return __import__("json").load(answer)
collect(post)
"""


UNTRUSTING = """
import requests
session = requests.Session()
session.trust_env = False
collect(lambda url, **options: session.post(url, **options).json())
"""


HTTPX_ASYNC = """
import asyncio, httpx
def post(url, **options):
    async def answer():
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.post(url, **options)).json()
    return asyncio.run(answer())
collect(post)
"""


TIKTOKS_OWN = """
from tiktok_research_api import QueryUserFollowingRequest, TikTokResearchAPI
api = TikTokResearchAPI(key, secret, qps=1000)
print(json.dumps(api.query_user_following(QueryUserFollowingRequest(username, max_count=100), fetch_all_pages=True)[0]))
"""
RESEARCHTIKPY = """
from researchtikpy.get_access_token import get_access_token
from researchtikpy.social_graph import extract_following, iter_following_responses
token = get_access_token(key, secret)["access_token"]
print(json.dumps([row for page in iter_following_responses(token, username) for row in extract_following(page)]))
"""
RESEARCHTIKPYS_FRAME = """
from researchtikpy import get_following
from researchtikpy.get_access_token import get_access_token
frame = get_following([username], get_access_token(key, secret)["access_token"], verbose=False)
print(json.dumps(frame[["display_name", "username"]].to_dict("records")))
"""
PYTHON_CLIENTS = {
    "requests": "import requests\ncollect(lambda url, **options: requests.post(url, **options).json())",
    "requests without trust_env": UNTRUSTING,
    "requests that pins certifi": (
        "import certifi, requests\n"
        "collect(lambda url, **options: requests.post(url, verify=certifi.where(), **options).json())"
    ),
    "httpx": "import httpx\ncollect(lambda url, **options: httpx.post(url, **options).json())",
    "httpx without trust_env": (
        "import httpx\ncollect(lambda url, **options: httpx.post(url, trust_env=False, **options).json())"
    ),
    "httpx's asynchronous client without trust_env": HTTPX_ASYNC,
    "urllib": URLLIB,
    "aiohttp": AIOHTTP,
    "TikTok's own wrapper": TIKTOKS_OWN,
    "ResearchTikPy": RESEARCHTIKPY,
    "ResearchTikPy's data frame": RESEARCHTIKPYS_FRAME,
}
