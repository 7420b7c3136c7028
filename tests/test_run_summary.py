"""The end of `retinue run`: what it says of lists and of connections, for real clients on real faults."""

import json
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.intercept.list_log import Delivery, ListKey, ListLog, row_hash
from retinue.intercept.verdicts import MAX_LINES, verdict_lines
from retinue.local import LocalServer
from retinue.model import Direction, Query
from support.intercepted import NODE, WITHOUT_CONFINEMENT, run
from support.summarized_runs import FIRST_SECOND, LENGTHS, NAIVE, counted, python, verdicts

# --- lists ------------------------------------------------------------------------------------------------------------


def test_complete_lists_are_said_to_be_complete(lengths_store: Path) -> None:
    """Without faults every list is, and unknown and private accounts are named as such."""
    done = python(lengths_store, NAIVE, *LENGTHS, "nobody", "shy")

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
def test_verdicts_agree_with_the_rows_of_a_client(lengths_store: Path, seed: int) -> None:
    """Rows, repeated rows, injected faults and broken connections are reported as the client saw them."""
    done = python(lengths_store, NAIVE, *LENGTHS, flags=("--faults", "hostile", "--seed", str(seed)))

    report = json.loads(done.stdout)
    assert {name: told(name, *seen) for name, seen in report["lists"].items()} == verdicts(done)
    assert report["broken"] == counted(done, "broken off")
    assert f"fault injection: hostile, seed {seed}\n" in done.stderr


def test_rows_that_came_twice_are_counted(lengths_store: Path) -> None:
    """Cursors that do not move give a client without care the same page again."""
    done = python(lengths_store, NAIVE, "doc", flags=("--faults", "stuck_cursors=0.3", "--seed", "1"))

    rows, repeated, times, trouble = json.loads(done.stdout)["lists"]["doc"]
    assert (747, "") == (rows, trouble)
    assert {"doc": f"{repeated} rows {'twice' if times == 2 else 'more than once'}, none missing"} == verdicts(done)


def test_lists_that_the_server_ends_are_told_apart(lengths_store: Path) -> None:
    """A list may end before its end without any error."""
    done = python(lengths_store, NAIVE, "a9f8", "anna", flags=("--faults", "list_end_rows=1000"))

    assert {"a9f8": "1,000 of 1,413 rows, the server ended the list there", "anna": "complete"} == verdicts(done)


def test_lists_that_begin_at_a_cursor_or_in_the_past(lengths_store: Path) -> None:
    """A client that asks for less than a whole list has asked for less."""
    asked = f"""
headers = {{"Authorization": "Bearer " + token()}}
collect("anna", cursor={FIRST_SECOND + 4950})
collect("@Doc", as_of={FIRST_SECOND + 20_000})
requests.post(API + "/research/user/following/", json={{"username": "a9f8", "max_count": 100}}, headers=headers)
requests.post(API + "/research/user/followers/", json={{"username": "u1", "max_count": 2}}, headers=headers)
requests.post(API + "/research/user/following/", json={{"username": ["u1"]}}, headers=headers)
"""
    done = python(lengths_store, NAIVE.split("\nheaders =", maxsplit=1)[0] + asked)

    assert {
        f"anna (from {FIRST_SECOND + 4950})": "complete",
        f"Doc (as of {FIRST_SECOND + 20_000})": "complete",
        "a9f8": "100 of 1,413 rows, the rest was not asked for",
        "u1 (followers)": "2 of 3 rows, the rest was not asked for",
    } == verdicts(done)
    assert f"{50 + 201 + 100 + 2} rows" in done.stderr


def test_skipped_pages_are_reported(lengths_store: Path) -> None:
    """A client may lose rows though it comes to the end."""
    asked = f"""
headers = {{"Authorization": "Bearer " + token()}}
requests.post(API + "/research/user/following/", json={{"username": "anna", "max_count": 100}}, headers=headers)
collect("anna", cursor={FIRST_SECOND + 9_900})
"""
    done = python(lengths_store, NAIVE.split("\nheaders =", maxsplit=1)[0] + asked)

    assert {"anna": "200 of 230 rows, others are missing in between"} == verdicts(done)


def test_many_lists_are_summed_up(lengths_store: Path) -> None:
    """Those with something missing come first."""
    others = [f"u{n}" for n in range(MAX_LINES + 5)]
    lines = verdicts(python(lengths_store, NAIVE, *others, "nobody"))

    assert ["nobody", *others[: MAX_LINES - 1], "6 more lists"] == list(lines)
    assert "6 complete, 0 incomplete or with surplus rows" == lines["6 more lists"]


def test_clients_in_node(lengths_store: Path) -> None:
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
    done = run("--store", lengths_store, "--", NODE, "-e", script)

    assert {"anna": "complete", "doc": "complete"} == verdicts(done), done.stderr


# --- servers and stores -----------------------------------------------------------------------------------------------


def test_lists_are_compared_only_with_a_store(lengths_store: Path, tmp_path: Path) -> None:
    """With `--server` alone the truth is not at hand; with the store beside it, it is."""
    server = LocalServer(tmp_path, graph=str(lengths_store), registers=True)
    command = ("--", sys.executable, "-c", NAIVE, "anna", "nobody")
    with server.answering():
        blind = run("--server", server.url, *command)
        seeing = run("--server", server.url, "--store", lengths_store, *command)

    assert {"anna": "230 rows, to the end", "nobody": "0 rows, broken off after a 400"} == verdicts(blind)
    assert {"anna": "complete", "nobody": "no such account"} == verdicts(seeing)


def test_the_store_stays_as_it_is(lengths_store: Path) -> None:
    """Clients and tokens of a run are elsewhere."""

    def digests() -> dict[str, bytes]:
        return {each.name: sha256(each.read_bytes()).digest() for each in lengths_store.parent.iterdir()}

    before = digests()
    python(lengths_store, NAIVE, "anna")
    assert before == {name: each for name, each in digests().items() if name in before}


def test_other_users_do_not_reach_the_sandbox(lengths_store: Path, tmp_path: Path) -> None:
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
    done = run(
        "--best-effort", "--store", lengths_store, "--", *command, within=WITHOUT_CONFINEMENT, TMPDIR=str(folder)
    )

    # The two ports are those of the relay.
    assert "1 0o700\n200\n2\n" == done.stdout, done.stderr


def test_a_script_keeps_its_own_key(lengths_store: Path) -> None:
    """Any client key is good with the secret that first came with it, and only with that."""
    script = """
import concurrent.futures, requests
def post(secret):
    form = {"client_key": "written-down", "client_secret": secret, "grant_type": "client_credentials"}
    return requests.post("https://open.tiktokapis.com/v2/oauth/token/", data=form).status_code
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print({*pool.map(post, ["first"] * 8)}, post("other"))
"""
    assert "{200} 401\n" == python(lengths_store, script).stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["--faults", "hostil"],
            "profile 'hostil' does not exist; expected one of documented, tiktok-2024, hostile",
        ),
        (["--server", "http://127.0.0.1:1", "--faults", "hostile"], "--faults and --seed need the sandbox"),
        (["--server", "http://127.0.0.1:1", "--seed", "7"], "--faults and --seed need the sandbox: remove them"),
        (["--store", "absent.db"], "absent.db"),
    ],
)
def test_unusable_flags_are_refused(arguments: list[str], reason: str, tmp_path: Path) -> None:
    """In a line, with exit code 2, before the command begins."""
    done = run(*arguments, "--", "touch", tmp_path / "begun")

    assert (2, False) == (done.returncode, (tmp_path / "begun").exists())
    assert reason in done.stderr


# --- connections ------------------------------------------------------------------------------------------------------


# --- limits -----------------------------------------------------------------------------------------------------------


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


def test_skipped_pages_are_not_the_end(lengths_store: Path, tmp_path: Path) -> None:
    """A script that goes on from a cursor of its own has not read the list."""
    server = LocalServer(tmp_path, graph=str(lengths_store), registers=True)
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
