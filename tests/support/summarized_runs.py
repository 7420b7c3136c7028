"""Runs of a careless client on lists of known lengths, and their summaries."""

import re
import sys
from pathlib import Path

import pytest

import running
from support.intercepted import Done, run

LENGTHS = {"anna": 230, "doc": 747, "a9f8": 1413, "empty": 0}
FIRST_SECOND = 1_600_000_000
FOLLOWS = [(name, f"u{n}", FIRST_SECOND + 100 * n) for name, length in LENGTHS.items() for n in range(length)]


# A client without patience: it takes each list up to the first surprise, and prints what it got.
NAIVE = """
import collections, json, requests, sys, time
API = "https://open.tiktokapis.com/v2"
FORM = {"client_key": "mine", "client_secret": "secret", "grant_type": "client_credentials"}

def token():
    while True:
        try:
            answer = requests.post(API + "/oauth/token/", data=FORM).json()
        except requests.JSONDecodeError:
            continue
        except requests.RequestException:
            report["broken"] += 1
            continue
        if "access_token" in answer:
            return answer["access_token"]

def collect(username, **query):
    rows = collections.Counter()
    query.update(username=username, max_count=100)
    while True:
        try:
            answer = requests.post(API + "/research/user/following/", json=query, headers=headers)
        except requests.RequestException:
            report["broken"] += 1
            return rows, "a broken connection"
        if answer.status_code != 200:
            return rows, f"a {answer.status_code}"
        page = answer.json()["data"]
        rows.update(row["username"] for row in page.get("user_following", []))
        if not page["has_more"]:
            return rows, ""
        query["cursor"] = page["cursor"]

report = {"broken": 0, "lists": {}}
headers = {"Authorization": "Bearer " + token()}
time.sleep(1.1)
for username in sys.argv[1:]:
    rows, trouble = collect(username)
    repeated = sum(times > 1 for times in rows.values())
    report["lists"][username] = len(rows), repeated, max(rows.values(), default=0), trouble
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def lengths_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with the lists of `LENGTHS`; one of its accounts hides its list."""
    folder = tmp_path_factory.mktemp("store")
    rows = "".join(f"{follower},{followee},{second}\n" for follower, followee, second in FOLLOWS)
    (folder / "follows.csv").write_text(f"follower,followee,followed_at\n{rows}")
    (folder / "accounts.csv").write_text("username,visibility\nempty,public\nshy,private\n")
    running.retinue(
        "import", "--store", folder / "graph.db", "--accounts", folder / "accounts.csv", folder / "follows.csv"
    )
    return folder / "graph.db"


def python(store: Path, script: str, *arguments: str, flags: tuple[str, ...] = ()) -> Done:
    """Run a script in Python on the store's graph."""
    done = run("--store", store, *flags, "--", sys.executable, "-c", script, *arguments)
    assert (0, False) == (done.returncode, "Task was destroyed" in done.stderr), done.stderr
    return done


def verdicts(done: Done) -> dict[str, str]:
    """Return the verdict for each list."""
    after_counts = re.split(r"retinue run: \d+ requests.*\n", done.stderr)[-1]
    return dict(re.findall(r"^retinue run:   (.*?): (.*)$", after_counts, re.MULTILINE))


def counted(done: Done, what: str) -> int:
    """Return how many connections the summary counts under these words."""
    found = re.search(rf"; (\d+) {re.escape(what)}", done.stderr)
    return int(found[1]) if found else 0
