"""Signed heads of the audit log, and the log compared with them."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from retinue.access.contract import Checkpoint
from retinue.audit.hash_chain import BEGINNING, ChainHead, next_head
from retinue.audit.log import AuditLog
from retinue.audit.log_files import files_of, without_oldest
from retinue.audit.record import AuditRecord, RemovedRecords
from retinue.audit.signed_heads import SignedHead, parse_signed_heads, sign_head
from retinue.audit.verify import verify
from retinue.errors import InputError
from retinue.store.open import open_store
from support.audit_logs import BIG, SECRET, new_checkpoint, record, written
from support.commands import retinue

NOW = 1_700_000_000


def links_of(folder: Path) -> list[ChainHead]:
    """The links of a log, from its beginning."""
    links = [BEGINNING]
    for path in files_of(folder):
        for line in path.read_bytes().splitlines():
            links.append(next_head(line, links[-1], SECRET))
    return links


def problems(folder: Path, checkpoint: Checkpoint, *heads: SignedHead) -> list[str]:
    """Return the problems of a log that is compared with heads."""
    return verify(folder, checkpoint, heads).problems


def test_every_head_of_a_log_verifies(tmp_path: Path) -> None:
    """From the empty log to the last record, all at once and each alone."""
    checkpoint = written(tmp_path, [5, 7, 3])
    heads = [sign_head(link, NOW, SECRET) for link in links_of(tmp_path)]

    assert 16 == len(heads)
    assert [] == problems(tmp_path, checkpoint, *heads)
    for head in heads:
        assert [] == problems(tmp_path, checkpoint, head)


def test_a_rewritten_log_does_not_match_its_heads(tmp_path: Path) -> None:
    """With the store's secret and a store that knows nothing else: other records, fewer records, none."""
    folder, other = tmp_path / "a", tmp_path / "b"
    written(folder, [6])
    head = sign_head(links_of(folder)[5], NOW, SECRET)
    forged = new_checkpoint()
    with closing(AuditLog(other, forged, BIG, lambda: NOW)) as audit_log:
        audit_log.write([record(number if number != 2 else 77) for number in range(1, 9)])
        forged = replace(forged, count=audit_log.written.count, hash=audit_log.written.hash)
    assert [] == problems(other, forged)
    (problem,) = problems(other, forged, head)
    assert "the log has another record there: it was rewritten" in problem
    short = written(tmp_path / "c", [4])
    assert [] == problems(tmp_path / "c", short)
    assert "the end is missing: the last record is 4" in problems(tmp_path / "c", short, head)[0]
    assert "the end is missing: the last record is 0" in problems(tmp_path / "d", new_checkpoint(), head)[0]


def test_forged_and_changed_heads_are_found(tmp_path: Path) -> None:
    """Any other number, hash, time or signature, and any other secret, is named, also if the log would fit."""
    checkpoint = written(tmp_path, [6])
    links = links_of(tmp_path)
    head = sign_head(links[5], NOW, SECRET)
    others = [replace(head, records=4, hash=links[4].hash.hex()), replace(head, time=NOW + 1)]
    others += [replace(head, mac="0" * 40), sign_head(links[5], NOW, bytes(32))]
    for each in others:
        assert ["was not signed by this store, or was changed"] == [
            problem.rpartition(": ")[2] for problem in problems(tmp_path, checkpoint, each)
        ]


def test_heads_of_removed_records_need_a_record_of_the_removal(tmp_path: Path) -> None:
    """Heads of removed records are reported as not comparable only if the log records the removal."""
    checkpoint = written(tmp_path, [5, 5])
    links = links_of(tmp_path)
    heads = [sign_head(link, NOW, SECRET) for link in links]
    removed = RemovedRecords(1, 5, links[5].hash.hex(), NOW, NOW)
    with closing(AuditLog(tmp_path, checkpoint, BIG, lambda: NOW)) as audit_log:
        audit_log.write(
            [
                msgspec.json.encode(
                    AuditRecord(
                        time=NOW,
                        log_id="",
                        endpoint="coordinator",
                        status=0,
                        code="removed",
                        microseconds=0,
                        peer="",
                        removed=removed,
                    )
                )
            ]
        )
        told = without_oldest(replace(checkpoint, count=audit_log.written.count, hash=audit_log.written.hash), links[5])
    files_of(tmp_path)[0].unlink()

    found = verify(tmp_path, told, heads)
    assert [] == found.problems
    assert "records 1 to 5 were removed for their age" in found.notes[0]
    assert [1, 2, 3, 4] == [n for n in range(11) if any(f", record {n}: " in note for note in found.notes[1:])]
    wrong = sign_head(ChainHead(5, bytes(20)), NOW, SECRET)
    assert "rewritten" in problems(tmp_path, told, wrong)[0]
    last = files_of(tmp_path)[-1]
    last.write_bytes(b"")
    untold = replace(told, count=10, hash=links[10].hash)
    assert 4 == sum("no record says that it was removed" in each for each in problems(tmp_path, untold, *heads))


LINE = '{"records":1,"hash":"' + "0" * 40 + '","time":5,"mac":"x"}'


def test_heads_are_read_from_log_lines() -> None:
    """One in each line, after whatever syslog puts before it; empty lines do not matter."""
    head = SignedHead(1, "0" * 40, 5, "x")
    assert [head] == parse_signed_heads(LINE, "x")
    assert [head, head] == parse_signed_heads(f"Nov 30 10:00:00 host retinue[7]: {LINE}\r\n\n{LINE}\n", "x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "nonsense",
        "{",
        LINE[:-1],
        LINE.replace("0" * 40, "0" * 39),
        LINE.replace("0" * 40, "zz" * 20),
        LINE.replace('"records":1', '"records":-1'),
        LINE.replace('"records":1', '"records":"1"'),
        LINE.replace('"time":5', '"time":999999999999999'),
        LINE.replace('"mac"', '"mak"'),
        LINE.replace("x", "\ud800"),
        f"{LINE}\n{LINE}x",
    ],
)
def test_malformed_heads_are_reported(text: str) -> None:
    """With the line, and where heads come from."""
    with pytest.raises(InputError, match="expected the output of `retinue audit head`"):
        parse_signed_heads(text, "heads.txt")


def test_the_commands_print_and_take_heads(store_path: Path, tmp_path: Path) -> None:
    """Heads come from text, a file or standard input; exit code 1 means a mismatch, 2 no head."""
    open_store(str(store_path)).create()
    head = retinue("audit", "head", "--store", store_path).stdout
    assert (1, 0) == (head.count("\n"), json.loads(head)["records"])
    kept = tmp_path / "heads.txt"
    kept.write_text(head * 2)
    for source, count in ((head, 1), (kept, 2)):
        done = retinue("audit", "verify", "--store", store_path, "--head", source)
        told = f"0 records, as they were written; heads compared: {count}\n"
        assert (0, told) == (done.returncode, done.stdout), done
    command = [sys.executable, "-m", "retinue", "audit", "verify", "--store", str(store_path), "--head", "-"]
    assert 0 == subprocess.run(command, input=head.encode(), capture_output=True, check=False).returncode
    changed = json.dumps({**json.loads(head), "time": 1})
    done = retinue("audit", "verify", "--store", store_path, "--head", changed)
    assert (1, True) == (done.returncode, "was not signed by this store, or was changed" in done.stdout)
    for bad in ("{}", "", " ", tmp_path / "none", tmp_path):
        done = retinue("audit", "verify", "--store", store_path, "--head", bad)
        assert (2, "") == (done.returncode, done.stdout)
