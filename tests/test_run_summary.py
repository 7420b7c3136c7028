"""The end of `retinue run`: what it says of lists and of connections, for real clients on real faults."""

import json
import re
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

import running
from retinue.intercept.exchanges import Exchanges
from retinue.intercept.lists import Delivery, ListKey, ListLog, row_hash
from retinue.intercept.traffic import Traffic
from retinue.intercept.verdicts import MAX_LINES, verdict_lines
from retinue.local import LocalServer
from retinue.model import Direction, Query
from support.frozen_clock import FrozenClock
from support.intercepted import NODE, WITHOUT_CONFINEMENT, Done, run

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
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


# --- lists ------------------------------------------------------------------------------------------------------------


def test_complete_lists_are_said_to_be_complete(store: Path) -> None:
    """Without faults every list is, and unknown and private accounts are named as such."""
    done = python(store, NAIVE, *LENGTHS, "nobody", "shy")

    expected = dict.fromkeys(LENGTHS, "complete") | {"nobody": "no such account", "shy": "the list is private"}
    assert expected == verdicts(done)
    assert f", {sum(LENGTHS.values())} rows\n" in done.stderr


def told(username: str, rows: int, repeated: int, times: int, trouble: str) -> str:
    """Return the verdict that fits what a client got."""
    parts = [] if rows == LENGTHS[username] and not trouble else [f"{rows:,} of {LENGTHS[username]:,} rows"]
    parts += [f"broken off after {trouble}"] if trouble else []
    parts += [f"{repeated:,} rows {'twice' if times == 2 else 'more than once'}"] if repeated else []
    return ", ".join([*parts, *(["none missing"] if repeated and not trouble else [])]) or "complete"


@pytest.mark.parametrize("seed", range(1, 6))
def test_verdicts_agree_with_the_rows_of_a_client(store: Path, seed: int) -> None:
    """Rows, repeated rows, injected faults and broken connections are reported as the client saw them."""
    done = python(store, NAIVE, *LENGTHS, flags=("--faults", "hostile", "--seed", str(seed)))

    report = json.loads(done.stdout)
    assert {name: told(name, *seen) for name, seen in report["lists"].items()} == verdicts(done)
    assert report["broken"] == counted(done, "broken off")
    assert f"faults on purpose: hostile, seed {seed}\n" in done.stderr


def test_rows_that_came_twice_are_counted(store: Path) -> None:
    """Cursors that do not move give a client without care the same page again."""
    done = python(store, NAIVE, "doc", flags=("--faults", "stuck_cursors=0.3", "--seed", "1"))

    rows, repeated, times, trouble = json.loads(done.stdout)["lists"]["doc"]
    assert (747, "") == (rows, trouble)
    assert {"doc": f"{repeated} rows {'twice' if times == 2 else 'more than once'}, none missing"} == verdicts(done)


def test_lists_that_the_server_ends_are_told_apart(store: Path) -> None:
    """A list may end before its end without any error."""
    done = python(store, NAIVE, "a9f8", "anna", flags=("--faults", "list_end_rows=1000"))

    assert {"a9f8": "1,000 of 1,413 rows, the server ended the list there", "anna": "complete"} == verdicts(done)


def test_lists_that_begin_at_a_cursor_or_in_the_past(store: Path) -> None:
    """A client that asks for less than a whole list has asked for less."""
    asked = f"""
headers = {{"Authorization": "Bearer " + token()}}
collect("anna", cursor={FIRST_SECOND + 4950})
collect("@Doc", as_of={FIRST_SECOND + 20_000})
requests.post(API + "/research/user/following/", json={{"username": "a9f8", "max_count": 100}}, headers=headers)
requests.post(API + "/research/user/followers/", json={{"username": "u1", "max_count": 2}}, headers=headers)
requests.post(API + "/research/user/following/", json={{"username": ["u1"]}}, headers=headers)
"""
    done = python(store, NAIVE.split("\nheaders =", maxsplit=1)[0] + asked)

    assert {
        f"anna (from {FIRST_SECOND + 4950})": "complete",
        f"Doc (as of {FIRST_SECOND + 20_000})": "complete",
        "a9f8": "100 of 1,413 rows, the rest was not asked for",
        "u1 (followers)": "2 of 3 rows, the rest was not asked for",
    } == verdicts(done)
    assert f"{50 + 201 + 100 + 2} rows" in done.stderr


def test_skipped_pages_are_reported(store: Path) -> None:
    """A client may lose rows though it comes to the end."""
    asked = f"""
headers = {{"Authorization": "Bearer " + token()}}
requests.post(API + "/research/user/following/", json={{"username": "anna", "max_count": 100}}, headers=headers)
collect("anna", cursor={FIRST_SECOND + 9_900})
"""
    done = python(store, NAIVE.split("\nheaders =", maxsplit=1)[0] + asked)

    assert {"anna": "200 of 230 rows, others are missing in between"} == verdicts(done)


def test_many_lists_are_summed_up(store: Path) -> None:
    """Those with something missing come first."""
    others = [f"u{n}" for n in range(MAX_LINES + 5)]
    lines = verdicts(python(store, NAIVE, *others, "nobody"))

    assert ["nobody", *others[: MAX_LINES - 1], "6 more lists"] == list(lines)
    assert "6 complete, 0 incomplete or with surplus rows" == lines["6 more lists"]


def test_clients_in_node(store: Path) -> None:
    """Keep-alive connections carry many exchanges."""
    script = """
const api = "https://open.tiktokapis.com/v2";
const grant = { client_key: "mine", client_secret: "secret", grant_type: "client_credentials" };
async function post(path, body, headers = {}) {
  return (await fetch(api + path, { method: "POST", body, headers })).json();
}
(async () => {
  const Authorization = `Bearer ${(await post("/oauth/token/", new URLSearchParams(grant))).access_token}`;
  for (const username of ["anna", "doc"]) {
    const query = { username, max_count: 100 };
    for (let page = { has_more: true }; page.has_more; query.cursor = page.cursor)
      page = (await post("/research/user/following/", JSON.stringify(query), { Authorization })).data;
  }
})();
"""
    done = run("--store", store, "--", NODE, "-e", script)

    assert {"anna": "complete", "doc": "complete"} == verdicts(done), done.stderr


# --- servers and stores -----------------------------------------------------------------------------------------------


def test_lists_are_compared_only_with_a_store(store: Path, tmp_path: Path) -> None:
    """With `--server` alone the truth is not at hand; with the store beside it, it is."""
    server = LocalServer(tmp_path, graph=str(store), registers=True)
    command = ("--", sys.executable, "-c", NAIVE, "anna", "nobody")
    with server.answering():
        blind = run("--server", server.url, *command)
        seeing = run("--server", server.url, "--store", store, *command)

    assert {"anna": "230 rows, to the end", "nobody": "0 rows, broken off after a 400"} == verdicts(blind)
    assert {"anna": "complete", "nobody": "no such account"} == verdicts(seeing)


def test_the_store_stays_as_it_is(store: Path) -> None:
    """Clients and tokens of a run are elsewhere."""

    def digests() -> dict[str, bytes]:
        return {each.name: sha256(each.read_bytes()).digest() for each in store.parent.iterdir()}

    before = digests()
    python(store, NAIVE, "anna")
    assert before == {name: each for name, each in digests().items() if name in before}


def test_other_users_do_not_reach_the_sandbox(store: Path, tmp_path: Path) -> None:
    """The sandbox listens on a socket in a private folder, and on no port."""
    script = """
import contextlib, os, pathlib, requests, stat
folder = pathlib.Path(os.environ["SSL_CERT_FILE"]).parent
sockets = [path for path in folder.rglob("*") if path.is_socket()]
print(len(sockets), oct(stat.S_IMODE(folder.stat().st_mode)))
form = {"client_key": "mine", "client_secret": "secret", "grant_type": "client_credentials"}
print(requests.post("https://open.tiktokapis.com/v2/oauth/token/", data=form).status_code)
inodes = set()
for path in pathlib.Path(f"/proc/{os.getppid()}/fd").iterdir():
    with contextlib.suppress(FileNotFoundError):  # one that the runner has closed meanwhile
        inodes.add(os.readlink(path))
with open(f"/proc/{os.getppid()}/net/tcp") as table:
    lines = [line.split() for line in table.readlines()[1:]]
print(sum(fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes for fields in lines))
"""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    command = (sys.executable, "-c", script)
    # Without a namespace a command may see what its runner has open.
    done = run("--best-effort", "--store", store, "--", *command, within=WITHOUT_CONFINEMENT, TMPDIR=str(folder))

    # The two ports are those of the relay.
    assert "1 0o700\n200\n2\n" == done.stdout, done.stderr


def test_a_script_keeps_its_own_key(store: Path) -> None:
    """Any client key is good with the secret that first came with it, and only with that."""
    script = """
import concurrent.futures, requests
def post(secret):
    form = {"client_key": "written-down", "client_secret": secret, "grant_type": "client_credentials"}
    return requests.post("https://open.tiktokapis.com/v2/oauth/token/", data=form).status_code
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print({*pool.map(post, ["first"] * 8)}, post("other"))
"""
    assert "{200} 401\n" == python(store, script).stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--faults", "hostil"], "faults: there is no profile 'hostil'; there are documented, tiktok-2024, hostile"),
        (["--server", "http://127.0.0.1:1", "--faults", "hostile"], "--faults and --seed are for the server of this"),
        (["--server", "http://127.0.0.1:1", "--seed", "7"], "--faults and --seed are for the server of this command"),
        (["--store", "absent.db"], "absent.db"),
    ],
)
def test_unusable_flags_are_refused(arguments: list[str], reason: str, tmp_path: Path) -> None:
    """In a line, with exit code 2, before the command begins."""
    done = run(*arguments, "--", "touch", tmp_path / "begun")

    assert (2, False) == (done.returncode, (tmp_path / "begun").exists())
    assert reason in done.stderr


# --- connections ------------------------------------------------------------------------------------------------------

RAW = """
import os, socket, ssl, struct
def tunnel():
    host, _, port = os.environ["https_proxy"].removeprefix("http://").partition(":")
    raw = socket.create_connection((host, int(port)))
    raw.sendall(b"CONNECT open.tiktokapis.com:443 HTTP/1.1\\r\\n\\r\\n")
    assert b" 200 " in raw.recv(1000)
    return raw
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
"""
RESET_AFTER_HANDSHAKE = """
opened = context.wrap_socket(tunnel())
opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
opened.close()
"""
NOT_TLS = 'opened = tunnel(); opened.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n"); opened.recv(1000)'
CLOSED_AFTER_HANDSHAKE = "opened = context.wrap_socket(tunnel()); opened.unwrap(); opened.close()"

TLS_CLIENTS = {
    "requests": "import requests, sys; requests.get('https://open.tiktokapis.com/', verify=sys.argv[1])",
    "aiohttp": (
        "import aiohttp, asyncio, os, ssl, sys\n"
        "async def ask():\n"
        "    context = ssl.create_default_context(cafile=sys.argv[1])\n"
        "    async with aiohttp.ClientSession() as session:\n"
        "        await session.get('https://open.tiktokapis.com/', ssl=context, proxy=os.environ['https_proxy'])\n"
        "asyncio.run(ask())"
    ),
    "a reset after the handshake": RAW + RESET_AFTER_HANDSHAKE,
}


@pytest.mark.parametrize("client", TLS_CLIENTS)
def test_tls_failures_are_counted(store: Path, tmp_path: Path, client: str) -> None:
    """Whether a client tells so by an alert or by a reset, during the handshake or after it."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    script = TLS_CLIENTS[client]

    done = run("--store", store, "--", sys.executable, "-c", script, tmp_path / "other.pem")

    assert 1 == counted(done, "did not trust the certificate"), done.stderr


def test_tls_failures_of_node_are_counted(store: Path) -> None:
    """Node finishes the handshake before it looks at the certificate."""
    script = "require('tls').connect({ host: 'open.tiktokapis.com', port: 443, ca: [] }).on('error', () => {});"

    done = run("--store", store, "--", NODE, "-e", script)

    assert 1 == counted(done, "did not trust the certificate"), done.stderr


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (RAW + CLOSED_AFTER_HANDSHAKE, "1 sent no request after TLS (was the certificate not trusted?)"),
        (RAW + NOT_TLS, "1 failed in TLS (HTTP_REQUEST)"),
    ],
)
def test_other_ends_in_tls_are_told_apart(store: Path, script: str, said: str) -> None:
    """Neither is distrust for certain."""
    done = run("--store", store, "--", sys.executable, "-c", script)

    assert said in done.stderr
    assert 0 == counted(done, "did not trust the certificate")


def test_silence_is_reported_only_without_requests(store: Path) -> None:
    """A connection that was broken off did come, and a command that does not exist cannot have asked."""
    broken = Traffic(FrozenClock())
    broken.add_unanswered(b"/", b"", by_client=False)
    absent = run("--store", store, "--", "no-such-command")
    silent = run("--store", store, "--", "true")

    assert not broken.is_silent
    assert 127 == absent.returncode
    assert [False, True] == ["no request reached" in done.stderr for done in (absent, silent)]


def test_answers_that_are_not_waited_for(store: Path) -> None:
    """A client that gives up has got nothing, and the server broke nothing off."""
    asked = """
headers = {"Authorization": "Bearer " + token()}
query = {"username": "anna", "max_count": 100}
try:
    requests.post(API + "/research/user/following/", json=query, headers=headers, timeout=0.01)
except requests.Timeout:
    print("gave up")
"""
    done = python(store, NAIVE.split("\nheaders =", maxsplit=1)[0] + asked, flags=("--faults", "delay_seconds=2"))

    assert "gave up\n" == done.stdout
    assert (1, 0) == (counted(done, "given up by the command before the answer"), counted(done, "broken off"))
    assert {"anna": "0 of 230 rows, broken off after an answer that was not waited for"} == verdicts(done)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_an_error_with_an_unread_body_is_a_response() -> None:
    """A client may close after the status of an error; a truncated page is an abandoned one."""
    ends = []
    for status in (b"500 Internal Server Error", b"200 OK"):
        traffic = Traffic(FrozenClock())
        exchanges = Exchanges(traffic)
        exchanges.sent(b'POST /v2/research/user/following/ HTTP/1.1\r\nContent-Length: 16\r\n\r\n{"username":"a"}')
        exchanges.delivered(b"HTTP/1.1 %b\r\nContent-Length: 99\r\n\r\n{" % status)
        exchanges.ended(by_client=True)
        ends.append(str(traffic))

    assert "1 requests, 1 refusals, 0 rows" == ends[0]
    assert "0 requests, 0 refusals, 0 rows; 1 given up by the command before the answer" == ends[1]


def log_of(pages: list[list[int]], log: ListLog) -> ListLog:
    """Return the log of one list that came in these pages, each complete in itself."""
    for number, page in enumerate(pages, 1):
        delivery = Delivery([str(row) for row in page], has_more=number < len(pages))
        log.add(ListKey("anna", Direction.FOLLOWING), Query("anna"), delivery, 1_700_000_000)
    return log


@given(st.lists(st.lists(st.integers(0, 30)), min_size=1), st.lists(st.integers(0, 30), unique=True))
def test_every_row_is_missing_or_delivered(pages: list[list[int]], expected: list[int]) -> None:
    """For every delivery and every list the counts are those of sets."""
    delivered = [row for page in pages for row in page]
    found, repeated = len({*expected} & {*delivered}), len({row for row in delivered if delivered.count(row) > 1})

    (line,) = verdict_lines(log_of(pages, ListLog()), lambda *_: [row_hash(str(row)) for row in expected])

    assert (found == len(expected)) != line.startswith(f"anna: {found} of {len(expected)} rows, ")
    assert bool(repeated) == (f"{repeated} rows twice" in line or f"{repeated} rows more than once" in line)
    unknown = len({*delivered} - {*expected})
    assert bool(unknown) == (f"{unknown} rows that the store does not have" in line)
    assert (found == len(expected) and not repeated and not unknown) == (line == "anna: complete")


@given(st.lists(st.integers(1, 40), min_size=1, unique=True), st.data())
def test_a_list_goes_to_the_end_if_each_page_begins_where_one_ended(ends: list[int], data: st.DataObject) -> None:
    """For every list without its store, whichever of its pages are asked for, in whatever order, and repeatedly."""
    cursors = [None, *sorted(ends, reverse=True)]
    last = len(cursors) - 1
    asked = [*data.draw(st.lists(st.integers(0, last), max_size=12)), last]
    log = ListLog()
    for number in asked:
        delivery = Delivery([], has_more=number < last, cursor=0 if number == last else cursors[number + 1] or 0)
        log.add(ListKey("anna", Direction.FOLLOWING), Query("anna", cursor=cursors[number]), delivery, 100)
    newest = min(asked)
    reached = newest
    for number in asked[asked.index(newest) :]:
        reached = max(reached, number + 1) if number <= reached else reached

    (line,) = verdict_lines(log, None)

    is_whole = reached > last
    if is_whole:
        assert line.endswith(": 0 rows, to the end")
    elif {*range(newest, last + 1)} - {*asked}:
        assert line.endswith(": 0 rows, a part in between was not asked for")


def test_skipped_pages_are_not_the_end(store: Path, tmp_path: Path) -> None:
    """A script that goes on from a cursor of its own has not read the list."""
    server = LocalServer(tmp_path, graph=str(store), registers=True)
    skipping = NAIVE.replace('query["cursor"] = page["cursor"]', f'query["cursor"] = {FIRST_SECOND + 1000}')
    with server.answering():
        done = run("--server", server.url, "--", sys.executable, "-c", skipping, "anna")

    assert {"anna": "111 rows, a part in between was not asked for"} == verdicts(done)


def test_summaries_beyond_the_limits_say_so() -> None:
    """Memory is bounded; a verdict is given for what was recorded, and for nothing else."""
    log = log_of([[1, 2, 3], [4, 5]], ListLog(max_lists=1, max_rows=4))
    log.add(ListKey("ben", Direction.FOLLOWING), Query("ben"), Delivery([], has_more=False), 1_700_000_000)

    lines = verdict_lines(log, lambda *_: [row_hash(str(row)) for row in range(1, 6)])

    assert ["anna: too many rows to compare", "1 answers for further lists are not compared"] == lines
    (line,) = verdict_lines(log_of([[1]], ListLog()), lambda *_: None)
    assert "anna: 1 rows, to the end" == line
