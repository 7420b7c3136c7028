"""The readers of untrusted bytes, as functions of any bytes.

A function fails only if its reader is wrong.

A reader may refuse, with the errors that its contract names. `scripts/fuzz.py` searches for inputs with coverage,
`test_fuzz.py` runs the corpus and a short round. The corpus is `corpus/<target>/`: every crash found becomes a file.
"""

import contextlib
import json
import math
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from retinue.access.authentication import MAX_TOKEN_BYTES, bearer_token
from retinue.access.client_rows import CLIENT_COLUMNS, GRANT_COLUMNS, checkpoint_of, client_of, grant_of
from retinue.access.contract import Checkpoint
from retinue.access.management_token import ManagementToken
from retinue.audit.hash_chain import BEGINNING
from retinue.audit.log_files import AuditLine, follow
from retinue.audit.verify import verify
from retinue.client import responses
from retinue.client.responses import BadResponse, HttpResponse
from retinue.collect import journal
from retinue.collect.collection import read_manifest
from retinue.collect.progress import Progress
from retinue.collect.verify import verify as verify_collection
from retinue.errors import InputError, Refusal, StoreError, StoreUnavailable
from retinue.faults import parse_faults
from retinue.history import intervals
from retinue.ingest import events, records
from retinue.ingest.tables import open_table
from retinue.ingest.values import BadRecord
from retinue.intercept.exchanges import Exchanges
from retinue.intercept.traffic import Traffic
from retinue.model import Direction, Pool, Quota, QuotaKey, RateLimit
from retinue.quota.file_counters import FileQuotaCounters
from retinue.store.layout.blocks import Block
from retinue.store.layout.columns import decode_blocks
from retinue.store.layout.histories import decode_moments, encode_moments
from retinue.store.layout.tables import LISTS
from retinue.web.heads import length_of, relevant_part, repeated, without_upgrade
from retinue.web.trusted_proxies import TrustedProxies, trusted_networks
from retinue.wire import parsing
from support.frozen_clock import FrozenClock

Target = Callable[[bytes], None]
CORPUS = Path(__file__).parent.parent / "corpus"

_SECRET = bytes(range(32))
_NOW = 1_700_000_000


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder in memory, if there is one."""
    memory = Path("/dev/shm")  # noqa: S108 - a new folder is made in it
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


# --- the wire ---------------------------------------------------------------------------------------------------------


def query(data: bytes) -> None:
    """The body of a request for a list: the plain reader agrees with the thorough one."""
    plain = parsing.read_plain_query(data)
    try:
        found = parsing.read_query(data)
    except Refusal as refusal:
        assert plain is None, refusal
        return
    assert plain in (None, found)
    assert 1 <= found.max_count <= 100
    assert found.cursor is None or found.cursor > 0
    assert found.username


def profile_query(data: bytes) -> None:
    """The body and the query string of a request for a profile."""
    body, _, query_string = data.rpartition(b"?")
    with contextlib.suppress(Refusal):
        username, fields = parsing.read_profile_query(body, query_string)
        assert username
        assert fields


def token_request(data: bytes) -> None:
    """The bodies of the token and revoke endpoints."""
    for read in (parsing.read_token_request, parsing.read_revoke_request):
        with contextlib.suppress(Refusal):
            read(data)


def authorization(data: bytes) -> None:
    """An Authorization header, on both listeners."""
    assert not ManagementToken(b"x" * 20).is_in(data) or b"x" * 20 in data
    with contextlib.suppress(Refusal):
        assert 0 < len(bearer_token(data)) <= MAX_TOKEN_BYTES


def head(data: bytes) -> None:
    """Names and values of headers, and the addresses that proxies claim."""
    fields = [tuple(line.partition(b":")[::2]) for line in data.split(b"\r\n")]
    headers = [(name.lower(), value) for name, value in fields]
    relevant_part(data)
    repeated(headers)
    length_of(b"POST", data, headers)
    without_upgrade(b"POST", b"/", "1.1", headers)
    TrustedProxies(trusted_networks("10.0.0.0/8, ::1")).address("10.1.1.1", [value for _, value in headers])
    with contextlib.suppress(InputError):
        trusted_networks(data.decode("latin-1"))


def exchanges(data: bytes) -> None:
    """Both directions of a connection through the relay; a NUL byte changes the direction."""
    connection = Exchanges(Traffic(FrozenClock()))
    for number, part in enumerate(data.split(b"\0")):
        (connection.delivered if number % 2 else connection.sent)(part)
    for by_client in (True, False):
        connection.ended(by_client=by_client)


def faults(data: bytes) -> None:
    """Faults as they are given on the command line."""
    with contextlib.suppress(InputError):
        parse_faults(data.decode("utf-8", "replace"))


# --- files of others --------------------------------------------------------------------------------------------------


def event(data: bytes) -> None:
    """A line of events: the quick reader agrees with the thorough one."""
    found: list[object] = []
    for read in (events.event_of, events.parse_event):
        try:
            found.append(read(data))
        except BadRecord:
            found.append(None)
    assert found[0] == found[1]
    with contextlib.suppress(BadRecord):
        events.repaired_event(data)


def _table(name: str, data: bytes) -> None:
    with _folder() as folder:
        path = folder / name
        path.write_bytes(data)
        for columns in (records.FOLLOW_COLUMNS, records.ACCOUNT_COLUMNS):
            with contextlib.suppress(InputError), contextlib.closing(open_table(path, columns)) as table:
                for row in table:
                    with contextlib.suppress(BadRecord):
                        if columns is records.FOLLOW_COLUMNS:
                            records.follow_record(row.values, _NOW)
                        else:
                            records.account_record(row.values)


def csv_table(data: bytes) -> None:
    """A CSV file of follows or accounts."""
    _table("f.csv", data)


def json_table(data: bytes) -> None:
    """A file of JSON lines of follows or accounts."""
    _table("f.jsonl", data)


def parquet_table(data: bytes) -> None:
    """A Parquet file of follows or accounts."""
    _table("f.parquet", data)


# --- the stored formats -----------------------------------------------------------------------------------------------


def block(data: bytes) -> None:
    """A packed block: both readers agree, and what is read is what was written."""
    table, key = LISTS[Direction.FOLLOWING].visible, 1 << 32
    try:
        found = Block.decode(table, key, data)
    except StoreUnavailable:
        return
    if list(found.positions) != sorted({*found.positions}):
        return  # `check` names it, and readers do not follow it
    if not {*found.starts, *found.ends} <= {*found.positions}:
        return
    columns = decode_blocks(table, [key], [data])
    entries = list(zip(*(column.tolist() for column in columns[1:]), strict=True))
    assert entries == [tuple(entry) for entry in found.newest_first()][::-1]
    assert list(Block.decode(table, key, found.encode()).newest_first()) == list(found.newest_first())


def moments(data: bytes) -> None:
    """The events of a pair."""
    with contextlib.suppress(StoreUnavailable):
        found = decode_moments(LISTS[Direction.FOLLOWING].histories, 1 << 32, data)
        assert encode_moments(found) == array("Q", sorted(set(array("Q", data)))).tobytes()
        ends = [(each.start, math.inf if each.end is None else each.end) for each in intervals(found)]
        assert ends == sorted(ends)


def client_row(data: bytes) -> None:
    """Rows of the access tables, as JSON: what passes has the promised types and ranges."""
    try:
        row = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(row, list):
        return
    values = [value.encode("utf-8", "replace") if str(value).startswith("x") else value for value in row]
    with contextlib.suppress(StoreUnavailable):
        checkpoint_of(values)
    if len(values) == len(CLIENT_COLUMNS):
        with contextlib.suppress(StoreUnavailable):
            client = client_of(values)
            assert client.quota.rate is None or 1 <= client.quota.rate.seconds <= 60
    if len(values) == len(GRANT_COLUMNS) + 1:
        with contextlib.suppress(StoreUnavailable):
            assert grant_of(values[0], values[1:]).quota_key.id > 0


def chain(data: bytes) -> None:
    """A file of the audit log: nothing that was not written with the secret passes."""
    lines = data.split(b"\n")
    steps = list(
        follow(
            iter(AuditLine(Path("x"), n, line, n < len(lines)) for n, line in enumerate(lines, 1)), BEGINNING, _SECRET
        )
    )
    assert all(step.problem or step.is_torn for step in steps)
    with _folder() as folder:
        (folder / "000000000000001.000.jsonl").write_bytes(data)
        found = verify(folder, Checkpoint(_SECRET, 3, bytes(20), 0, bytes(20), is_open=True))
    assert found.problems


def counter_file(data: bytes) -> None:
    """Counters of quotas, overwritten from a place on: a refusal, or no more than the quota."""
    quota_key, quota = QuotaKey(1, _NOW - 50), Quota(5, 50, 5, RateLimit(3, 10))
    with _folder() as folder:
        path = folder / "quotas"
        with contextlib.closing(FileQuotaCounters(path)) as counters:
            counters.charge(quota_key, _NOW, Pool.LISTS, 10, quota)
        with path.open("r+b") as file:
            file.seek(int.from_bytes(data[:4], "little") % 2_000)
            file.write(data[4:])
        with contextlib.suppress(StoreError, StoreUnavailable), contextlib.closing(FileQuotaCounters(path)) as counters:
            counters.status(quota_key, _NOW, Pool.LISTS, quota)
            assert 0 <= counters.remaining(quota_key, _NOW, Pool.LISTS, quota, 20) <= 20
            counters.charge(quota_key, _NOW, Pool.LISTS, 10, quota)
            assert 0 <= counters.admit(quota_key, _NOW, RateLimit(3, 10)) <= 10


# --- what a client reads ----------------------------------------------------------------------------------------------


def answer(data: bytes) -> None:
    """An answer of a service: its first byte is the status, what follows is the body."""
    statuses = (200, 400, 401, 407, 429, 500, 503, 301, 204)
    found = HttpResponse(statuses[data[0] % len(statuses)] if data else 200, data[1:], {"x-tt-logid": "é"}, "http://x/")
    for direction in ("following", "followers"):
        page = responses.parse_page(found, direction, None, _NOW)
        assert isinstance(page, BadResponse) or all(isinstance(row.username, str) for row in page.rows)
    for fault in (responses.parse_info(found, _NOW), responses.parse_token(found)):
        if isinstance(fault, BadResponse):
            responses.unavailable_reason(fault.message)
            fault.message.encode()


def collection(data: bytes) -> None:
    """The journal of a collection, and its manifest."""
    with _folder() as folder:
        (folder / "pages.jsonl").write_bytes(data)
        progress = Progress()
        with contextlib.suppress(InputError):
            for record in journal.records(folder / "pages.jsonl"):
                progress.add(record)
        with contextlib.suppress(InputError):
            verify_collection(folder)
        (folder / "manifest.json").write_bytes(data)
        with contextlib.suppress(InputError):
            read_manifest(folder)
        with contextlib.suppress(InputError):
            verify_collection(folder)


TARGETS: dict[str, Target] = {
    each.__name__: each
    for each in (
        *(query, profile_query, token_request, authorization, head, exchanges, faults),
        *(event, csv_table, json_table, parquet_table),
        *(block, moments, client_row, chain, counter_file),
        *(answer, collection),
    )
}
