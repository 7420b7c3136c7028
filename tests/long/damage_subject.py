"""Makes what `damage.py` damages: a store with something of everything, its logs, and a collection of its lists."""

import asyncio
import json
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from damage_probe import Question, StandingClock, Subject, good_token
from retinue.model import AccountEvent, AccountRecord, ErasureEvent, Event, FollowEvent, Visibility
from retinue.store.open import open_store
from running import AMPLE_LIMITS, Client, Session, create_client, retinue, running_server

AUDIT = "graph.audit"
COLLECTION = "collection"
EVENTS = "events.jsonl"
FOLLOWS = "follows.csv"
_START = 1_600_000_000
_PEOPLE = 150
_FANS = 300
_LIST_KINDS = ("following", "followers")


def build(folder: Path) -> Subject:
    """Make everything in a new folder."""
    folder.mkdir()
    work = folder.with_name("building")
    work.mkdir()
    store = work / "graph.db"
    now = int(time.time())
    open_store(str(store)).create()
    with closing(open_store(str(store)).writer(StandingClock(now))) as writer:
        asyncio.run(writer.apply(_events(), now))
        asyncio.run(writer.run_maintenance())
    client, spent = create_client(store, *AMPLE_LIMITS), create_client(store, "--list-calls", "1")
    _ask_a_server(work, client, spent)
    tokens = [good_token(store, now, (one.key, one.secret)) for one in (client, spent)]
    (work / EVENTS).write_text(_lines_of_events())
    (work / FOLLOWS).write_text(
        "follower,followee,followed_at\n" + "".join(f"p{n},p{n + 1},{now - n}\n" for n in range(40))
    )
    # The log holds one transaction that is not in the file yet: all of it is visible or nothing.
    with closing(open_store(str(store)).writer(StandingClock(now))) as writer:
        late = [FollowEvent(f"p{n}", f"p{n + 5}", now - 50 - n) for n in range(30)]
        asyncio.run(writer.apply([*late, AccountEvent(AccountRecord(key="p9", username="renamed"), now)], now))
        for path in work.iterdir():
            if path.is_dir():
                shutil.copytree(path, folder / path.name)
            elif not path.name.endswith("-shm"):
                shutil.copy(path, folder)
    shutil.rmtree(work)
    key_and_secret = (client.key, client.secret)
    return Subject(folder / "graph.db", now, key_and_secret, tokens[0], tokens[1], tuple(_questions(now)))


def _events() -> list[Event]:
    """Bursts, ended and moved follows, hidden, renamed and erased accounts, profiles, lists of several blocks."""
    people = [f"p{n}" for n in range(_PEOPLE)]
    events: list[Event] = [
        AccountEvent(
            AccountRecord(
                key=name, username=name, display_name=f"Person {n} ✓", bio_description="bio " * (n % 5), likes_count=n
            ),
            _START,
        )
        for n, name in enumerate(people)
    ]
    events += [FollowEvent(f"fan{n}", "hub", _START + 2 * n) for n in range(_FANS)]
    events += [FollowEvent("hub", f"fan{n}", _START + 5 * n) for n in range(0, _FANS, 2)]
    events += [FollowEvent(one, people[(n * 7 + 3) % _PEOPLE], _START + n // 3) for n, one in enumerate(people)]
    events += [FollowEvent("p1", f"p{n}", _START + 100) for n in range(20, 60)]
    events += [FollowEvent("p1", f"p{n}", _START + 500, is_follow=False) for n in range(20, 30)]
    events += [FollowEvent("p1", f"p{n}", _START + 900) for n in range(20, 25)]
    hidden = {"p30": Visibility.PRIVATE, "p31": Visibility.WITHHELD, "p32": Visibility.FOLLOWING_HIDDEN}
    events += [AccountEvent(AccountRecord(key=key, visibility=one), _START + 950) for key, one in hidden.items()]
    return [*events, ErasureEvent("p40", _START + 990), ErasureEvent("fan3", _START + 990)]


def _ask_a_server(work: Path, client: Client, spent: Client) -> None:
    """Fill the audit log and the counters, and collect some lists."""
    names = work / "names.txt"
    names.write_text("hub\np1\np2\np30\nnobody\n")
    with running_server(work / "graph.db") as server, Session(server.base_url) as session:
        asking = Session(server.base_url, session.token(client))
        for n in range(40):
            asking.following({"username": f"p{n % 20}"})
        Session(server.base_url, session.token(spent)).following({"username": "p1"})
        collected = ("--usernames", names, "--output", work / COLLECTION, "--lists", "following,followers,info")
        access = ("--server", server.base_url, "--client-key", client.key, "--client-secret", client.secret)
        retinue("collect", *collected, *access, "--format", "csv,jsonl")
        asking.__exit__()


def _lines_of_events() -> str:
    events: list[dict[str, Any]] = [
        *({"type": "follow", "follower": f"p{n}", "followee": "hub", "at": _START + 2000 + n} for n in range(30)),
        *({"type": "unfollow", "follower": f"fan{n}", "followee": "hub", "at": _START + 3000} for n in range(5, 25)),
        {"type": "account", "key": "p5", "username": "other", "at": _START + 3000},
        {"type": "visibility", "key": "p6", "visibility": "private", "at": _START + 3000},
        {"type": "erase", "key": "p8", "at": _START + 3000},
    ]
    return "".join(json.dumps(event) + "\n" for event in events)


def _questions(now: int) -> list[Question]:
    names = ("hub", "p1", "p2", "p5", "p9", "renamed", "p33", "p60", "fan4", "p30", "p32", "nobody")
    found: list[Question] = [
        (kind, {"username": name, "max_count": count}) for kind in _LIST_KINDS for name in names for count in (20, 100)
    ]
    found += [
        (kind, {"username": "hub", "max_count": 100, "cursor": _START + second})
        for kind in _LIST_KINDS
        for second in (50, 200, 400, 700)
    ]
    found += [(kind, {"username": "p1", "as_of": _START + 600}) for kind in _LIST_KINDS]
    found += [("following", {"username": "p1", "as_of": now - 5, "max_count": 100})]
    return [*found, *(("info", {"username": name}) for name in names)]
