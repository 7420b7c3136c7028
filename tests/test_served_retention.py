"""Retention, sums of refusals and the bound of the audit log, in a running server."""

import http.client
import json
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from retinue.audit.log_files import files_of
from retinue.audit.refusals import BURST
from running import Client, running_server
from support.commands import retinue
from support.coordinators import AuditedStore
from support.frozen_clock import FrozenClock
from support.management import asked
from support.served import audit, metrics, posted, records, token_of
from support.service import FOLLOWING
from support.waiting import waiting_for

MIB = 1024 * 1024


def test_a_server_with_a_clock_far_ahead_keeps_its_log(list_store: Path) -> None:
    """The log of years ago stays whole until an operator confirms the clock; then what was removed is told."""
    audited = AuditedStore(list_store, FrozenClock())
    for _ in range(2):
        audited.take(200, 3, client="a")
        audited.clock.advance(2000)
    assert audited.finish()
    folder = list_store.with_suffix(".audit")

    for _ in range(2):
        with running_server(list_store) as server:
            posted(server, FOLLOWING, "", "nonsense")
            waiting_for(lambda: metrics(server, list_store).get("retinue_clock_doubted_seconds", 0) > 2 * 365 * 86_400)
            waiting_for((folder / "clock").exists)
    assert (0, [1, 4]) == (audit(list_store, "verify")[0], [int(path.name[:15]) for path in files_of(folder)][:2])

    assert 0 == retinue("audit", "confirm-clock", "--store", list_store).returncode
    with running_server(list_store) as server:
        waiting_for(lambda: int(files_of(folder)[0].name[:15]) > 1)
        assert 0 == metrics(server, list_store)["retinue_clock_doubted_seconds"]
    code, told = audit(list_store, "verify")
    assert (0, True) == (code, "note     records 1 to 3 were removed for their age; last, at " in told), told


def test_a_flood_without_a_token_leaves_few_log_lines(list_store: Path, client: Client) -> None:
    """Every refusal is answered and counted, in metrics and `usage`; the log of a client's requests stays as it is."""
    count = BURST + 1400
    with running_server(list_store) as server:
        token = token_of(server, client)
        with closing(http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=60)) as connection:
            for _ in range(count):
                connection.request("POST", FOLLOWING, "{}")
                answer = connection.getresponse()
                answer.read()
                assert 401 == answer.status
        assert 200 == posted(server, FOLLOWING, '{"username":"p"}', token)[0]
        key = 'retinue_requests_total{code="access_token_invalid",endpoint="following"}'
        waiting_for(lambda: metrics(server, list_store).get(key) == count)
        summed = metrics(server, list_store)["retinue_audit_refusals_summed_total"]
        assert audit(list_store, "verify")[0] == 0
    assert 0 < summed <= 1400
    assert len(list(records(list_store))) <= count - summed + 10
    code, told = audit(list_store, "verify")
    assert (0, True) == (code, f"{summed:.0f} refusals are summed up" in told), told
    usage = json.loads(audit(list_store, "usage", "--json")[1])
    assert count == sum(row["requests"] for row in usage if not row["client"])


def test_a_log_near_its_bound_makes_the_server_unready(list_store: Path, client: Client) -> None:
    """It says so before requests are refused; at the bound nothing more is accepted over the management listener."""
    audited = AuditedStore(list_store, FrozenClock())
    for _ in range(46):
        audited.take(200, 100, client="a")
    assert audited.finish()
    size = sum(path.stat().st_size for path in files_of(audited.folder))
    assert 0.95 * MIB < size < MIB
    with running_server(list_store, "--audit-max-mib", "1") as server:
        status, _, answer = asked(server.management_url, "/ready", method="GET")
        assert (503, "the audit log has 0 MiB of at most 1 (--audit-max-mib)") == (status, answer["status"])
        assert 200 == posted(server, FOLLOWING, '{"username":"p"}', token_of(server, client))[0]
        found = metrics(server, list_store)
        assert (MIB, True) == (found["retinue_audit_max_bytes"], size <= found["retinue_audit_bytes"] < MIB)
    with running_server(list_store) as server:
        assert 200 == asked(server.management_url, "/ready", method="GET")[0]
