"""Clients outlive event loops and forks, and arguments may come from numpy or from lines of a file."""

import asyncio
import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from retinue.client import AsyncClient, Client, Person
from retinue.errors import InputError
from retinue.local import LocalServer
from support.scripted_service import Said, enveloped, page, scripted

FORKED = """
import os, sys
from retinue.client import Client

client = Client("k", "s", sys.argv[1])
listing = client.following("anna")
listing.next_page()
child = os.fork()
if child == 0:
    print("child", [person.username for person in listing], client.user_info("anna").follower_count, flush=True)
    client.close()
    sys.exit()  # which finalizes all objects, also those of the parent
_, status = os.waitpid(child, 0)
print("parent", status, [person.username for person in listing], client.user_info("anna").follower_count)
client.close()
"""
POOLED = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from retinue.client import Client

client = Client("k", "s", sys.argv[1])

def count(name):
    return client.user_info(name).follower_count

count("anna")
with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
    print(list(pool.map(count, "abcd")), count("anna"))
client.close()
"""


def service(path: str, body: dict[str, Any]) -> Said:
    """Two pages of a row, and a profile."""
    if "/info/" in path:
        return enveloped({"follower_count": 3})
    return page([{"username": "late"}]) if "cursor" in body else page([{"username": "early"}], 5, has_more=True)


def outcome(script: str, url: str) -> tuple[str, str]:
    """Return what a program prints. It fails if it takes as long as a connection that is not read."""
    command = [sys.executable, "-c", script, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    return done.stdout, done.stderr


def test_a_client_works_after_a_fork() -> None:
    """In the child and in the parent, in the middle of a list; neither disturbs the other's connections."""
    with scripted(service) as url:
        assert outcome(FORKED, url) == ("child ['late'] 3\nparent 0 ['late'] 3\n", "")


def test_a_client_works_in_a_pool_of_forked_processes() -> None:
    """A client that was made before the pool is used by all of its processes."""
    with scripted(service) as url:
        assert outcome(POOLED, url) == ("[3, 3, 3, 3] 3\n", "")


def test_an_asynchronous_client_works_on_a_second_loop() -> None:
    """Each `asyncio.run` has an event loop of its own."""
    script = """
import asyncio, sys
from retinue.client import AsyncClient

client = AsyncClient("k", "s", sys.argv[1])
for _ in range(3):
    print(asyncio.run(client.user_info("anna")).follower_count)
asyncio.run(client.close())
"""
    with scripted(service) as url:
        assert outcome(script, url) == ("3\n3\n3\n", "")


def test_a_client_in_use_by_another_loop_is_refused() -> None:
    """Two loops that run at once cannot share connections."""
    client = AsyncClient("k", "s", "http://127.0.0.1:9")
    asked, over = threading.Event(), threading.Event()

    async def hold() -> None:
        await client._transport._opened()
        asked.set()
        await asyncio.to_thread(over.wait, 60)
        await client.close()

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    assert asked.wait(60)
    with pytest.raises(InputError, match="in use on another event loop; make one client for each loop"):
        asyncio.run(client.user_info("anna"))
    over.set()
    thread.join()


def test_a_client_that_was_closed_before_a_fork_is_closed_after_it() -> None:
    """Also if it was never used."""
    client = Client("k", "s", "http://127.0.0.1:9")
    client.close()
    child = os.fork()
    if child == 0:
        try:
            client.user_info("anna")
        except InputError as error:
            os._exit(17 if "is closed" in str(error) else 1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17


def test_integers_of_any_kind_are_taken(retinue_server: LocalServer) -> None:
    """Columns of a data frame have numbers of numpy."""
    retinue_server.load(follows=[("anna", f"f{number}", 1_000 + number) for number in range(9)])
    with Client(retinue_server.client_key, retinue_server.client_secret, retinue_server.url) as client:
        found = client.following("anna", cursor=np.int64(1_004), max_count=np.int8(2), as_of=np.uint32(1_003))  # type: ignore[arg-type]
        assert [person.username for person in found] == ["f3", "f2", "f1", "f0"]


@pytest.mark.parametrize("field", ["cursor", "max_count", "as_of"])
@pytest.mark.parametrize("value", [True, np.bool_(True), 5.0, np.float64(5), "5", -1, np.int64(-1)])
def test_values_that_are_not_integers_are_refused(field: str, value: Any) -> None:
    """Before anything is asked; true is not 1."""
    with (
        Client("k", "s", "http://127.0.0.1:9") as client,
        pytest.raises(InputError, match=f"^{field}: expected") as caught,
    ):
        client.following("anna", **{field: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("username", "words"),
    [
        ("anna\n", r"username: 'anna\n' has whitespace"),
        ("an na", "username: 'an na' has whitespace"),
        ("", "username: '' is empty"),
        ("@@anna", "username: '@@anna' begins with more than one @"),
        ("x" * 256, "is longer than 255 characters"),
        ("\ud800", r"username: '\ud800' has whitespace or characters that cannot be printed"),
        (None, "username: expected text, not None"),
    ],
)
def test_invalid_usernames_are_refused_with_the_reason(username: Any, words: str) -> None:
    """Before anything is asked, and as Python writes it, so that a line break can be seen."""
    with Client("k", "s", "http://127.0.0.1:9") as client:
        for ask in (client.following, client.followers, client.user_info):
            with pytest.raises(InputError) as caught:
                ask(username)
            assert words in str(caught.value)


def test_names_of_other_platforms_are_asked_for() -> None:
    """The rule of names is that of imports."""
    names = ["https://iris.to/alice", "@anna", "名前", "a|b", "x" * 255]
    heard = []

    def answer(_path: str, body: dict[str, Any]) -> Said:
        heard.append(body["username"])
        return page([{"username": "z"}])

    with scripted(answer) as url, Client("k", "s", url) as client:
        assert [list(client.following(name)) for name in names] == [[Person("z")]] * 5
    assert heard == names
