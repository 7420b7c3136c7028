"""The fixture `retinue_server` and the client in tests that freeze time, in pytest processes of their own."""

import subprocess
import sys
from pathlib import Path

# Above what a busy machine needs, and still finite.
LIMIT_SECONDS = 180

COMMON = """
import itertools, json, time, urllib.request
import pytest, time_machine
from freezegun import freeze_time

FREEZERS = {"freezegun": freeze_time, "time-machine": lambda when: time_machine.travel(when, tick=False)}
GRAPH = [("anna", "ben", 1_600_000_000)]
pytestmark = pytest.mark.retinue(follows=GRAPH)


@pytest.fixture(params=FREEZERS)
def frozen(request):
    return FREEZERS[request.param]


def following(server):
    headers = {"Authorization": "Bearer " + server.token()}
    asked = urllib.request.Request(server.url + "/v2/research/user/following/", b'{"username": "anna"}', headers)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return [row["username"] for row in json.load(answer)["data"]["user_following"]]
"""

FROZEN_TESTS = {
    "decorated tests": """
@freeze_time("2024-05-01")
def test_freezegun(retinue_server):
    assert ["ben"] == following(retinue_server)


@time_machine.travel("2034-05-01", tick=False)
def test_time_machine(retinue_server):
    assert ["ben"] == following(retinue_server)
""",
    "the whole life": """
@pytest.fixture
def frozen_before(frozen):
    with frozen("2024-05-01"):
        yield


def test_whole_life(frozen_before, retinue_server):
    assert ["ben"] == following(retinue_server)
""",
    "use": """
def test_use(retinue_server, frozen):
    assert ["ben"] == following(retinue_server)
    with frozen("2024-05-01"):
        assert ["ben"] == following(retinue_server)
    assert ["ben"] == following(retinue_server)
""",
    "creation": """
def test_creation(frozen, tmp_path):
    with frozen("2024-05-01"):
        from retinue.local import local_server
        opened = local_server(tmp_path)
        server = opened.__enter__()
    server.load(follows=GRAPH)
    assert ["ben"] == following(server)
    opened.__exit__(None, None, None)
""",
    "teardown": """
def test_teardown(frozen, tmp_path):
    from retinue.local import local_server
    opened = local_server(tmp_path)
    server = opened.__enter__()
    server.load(follows=GRAPH)
    assert ["ben"] == following(server)
    with frozen("2024-05-01"):
        opened.__exit__(None, None, None)
""",
    "moving time": """
def test_time_that_ticks_or_jumps(retinue_server):
    with freeze_time("2024-05-01", tick=True):
        assert ["ben"] == following(retinue_server)
    with time_machine.travel("2034-05-01"):
        assert ["ben"] == following(retinue_server)
    with freeze_time("2024-05-01", auto_tick_seconds=15) as moved:
        assert ["ben"] == following(retinue_server)
        moved.move_to("2034-05-01")
        assert ["ben"] == following(retinue_server)
""",
    "the clock": """
def test_the_server_has_the_time_of_the_test(retinue_server, frozen):
    with frozen("2020-09-13 12:26:39"):  # a second before the follow
        assert [] == following(retinue_server)
    with frozen("2020-09-13 12:26:40"):
        assert ["ben"] == following(retinue_server)
""",
    "changes": """
def test_changes_are_seen(retinue_server, frozen):
    with frozen("2024-05-01"):
        assert ["ben"] == following(retinue_server)
        retinue_server.load(accounts=[{"username": "ben", "visibility": "private"}])
        for attempt in itertools.count():
            if not following(retinue_server):
                break
            assert attempt < 600
            time.sleep(0.1)
""",
    "faults and the client": """
from retinue.client import Client
from retinue.faults import Faults

def test_the_client_waits_and_goes_on(retinue_server, frozen):
    retinue_server.faults = Faults(server_errors=0.5, delay_seconds=0.1, seed=3)
    with frozen("2024-05-01"):
        with Client(retinue_server.client_key, retinue_server.client_secret, retinue_server.url) as client:
            for _ in range(5):
                assert ["ben"] == [person.username for person in client.following("anna")]
""",
}


def test_a_server_serves_and_stops_in_frozen_time(tmp_path: Path) -> None:
    """Neither creation nor requests nor teardown hang, whichever part of them a test freezes."""
    for when, tests in FROZEN_TESTS.items():
        (tmp_path / f"test_{when.replace(' ', '_')}.py").write_text(COMMON + tests)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=60", tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
