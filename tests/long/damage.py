"""Damage copies of a store, its logs and a collection, and look at the outcome of each.

Each damage is a flipped bit, a zeroed or garbled range, a lost, swapped or repeated page, a missing end, or a value of
another type, drawn from a seed; or a row that is changed, swapped, lost or older. Then the real application answers
every question that it answered before, and the commands that read the file are run. Nothing may end in a traceback, a
hang, a crash or status 500. Changed and swapped rows may never cause a wrong answer. Rows that are lost whole, maybe
with a page of SQLite, may; then `check` must name the damage.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import duckdb  # noqa: F401 - loaded once, before the processes begin that need it
import numpy as np  # noqa: F401 - the same

import damage_kinds as kinds
from damage_probe import Said, Seen, Subject, answers, command, compare, resume_audit
from damage_served import ask_server
from damage_subject import AUDIT, COLLECTION, EVENTS, FOLLOWS, build

CPU_SECONDS = 120
WALL_SECONDS = 600  # a busy machine may take its time
MOST_BYTES = 6 << 30


@dataclass(frozen=True, slots=True)
class Target:
    """A file to damage: its pattern in the subject's folder, kinds of damage, commands to run."""

    name: str
    pattern: str
    how: tuple[kinds.Kind, ...]
    commands: tuple[tuple[str, ...], ...]
    share: int
    change: Callable[[Path, random.Random], str] | None = None  # instead of `how`
    used_bytes: int = 0  # at the beginning of the file, if the rest is empty
    is_served: bool = True
    is_sealed: bool = False  # checksums tell each damage: no answer may be wrong
    is_torn: bool = False  # the file's end is lost, as after a power loss


_STORE = ("--store", "{store}")
_COLLECTED = ("{folder}/" + COLLECTION,)
_GRAPH_COMMANDS = (
    ("export", *_STORE, "{folder}/exported"),
    ("apply", *_STORE, "{folder}/" + EVENTS),
    ("import", *_STORE, "{folder}/" + FOLLOWS),
    ("erase", *_STORE, "hub"),
    ("erase", *_STORE, "--compact", "p7"),
    ("backup", *_STORE, "{folder}/copy.db"),
    ("following", *_STORE, "hub"),
)
_ACCESS_COMMANDS = (
    ("client", "list", *_STORE),
    ("client", "create", *_STORE, "--name", "x"),
    ("client", "show", *_STORE, "{client}"),
    ("client", "rotate", *_STORE, "{client}"),
    ("audit", "verify", *_STORE),
    ("audit", "usage", *_STORE),
)
_AUDIT_COMMANDS = (("audit", "verify", *_STORE), ("audit", "usage", *_STORE), ("audit", "show", *_STORE, "x"))
_COLLECT_COMMANDS = (("collect", "verify", *_COLLECTED), ("collect", "diff", *_COLLECTED, *_COLLECTED))

TARGETS = (
    Target("graph", "graph.db", kinds.ON_DATABASE, _GRAPH_COMMANDS, 36),
    Target("graph, values", "graph.db", (), _GRAPH_COMMANDS, 10, kinds.spoil_value),
    Target("graph, rows", "graph.db", (), _GRAPH_COMMANDS, 24, kinds.spoil_row, is_sealed=True),
    Target("graph, lost rows", "graph.db", (), _GRAPH_COMMANDS, 12, kinds.lose_row),
    Target("row file", "graph.rows", kinds.ON_ROWS, _GRAPH_COMMANDS[:1], 10, used_bytes=36_000, is_sealed=True),
    Target("graph's log", "graph.db-wal", kinds.ON_DATABASE, _GRAPH_COMMANDS, 8, is_torn=True),
    Target("access", "graph.access.db", kinds.ON_DATABASE, _ACCESS_COMMANDS, 8),
    Target("access, values", "graph.access.db", (), _ACCESS_COMMANDS, 10, kinds.spoil_value),
    Target("quota counters", "graph.quotas", kinds.ON_ANY, (("client", "list", *_STORE),), 4),
    Target("audit log", f"{AUDIT}/*", kinds.ON_TEXT, _AUDIT_COMMANDS, 5, is_served=False),
    Target("collection", f"{COLLECTION}/*", kinds.ON_TEXT, _COLLECT_COMMANDS, 5, is_served=False),
)


@dataclass(slots=True)
class Outcomes:
    """Outcomes of all damages to one kind of file."""

    tried: int = 0
    refused: int = 0
    harmless: int = 0
    unavailable: int = 0
    denied: int = 0
    wrong: int = 0
    wrong_answers: int = 0
    unnoticed: int = 0
    older: int = 0
    quota_open: int = 0
    named: int = 0
    faults: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Damage, look, report; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--damages", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of a target's name")
    parser.add_argument("--served", action="store_true", help="ask a real `retinue serve` for each damage, over HTTP")
    parser.add_argument("--show", action="store_true", help="print each damage with its outcome")
    options = parser.parse_args()
    targets = [target for target in TARGETS if options.only in target.name]
    looks = look_served if options.served else look
    with tempfile.TemporaryDirectory(dir=_quick_folder(), prefix="damage-") as folder:
        totals = {target.name: Outcomes() for target in targets}
        with contextlib.suppress(KeyboardInterrupt):  # outcomes so far are printed
            run(Path(folder), targets, Round(options.damages, options.seed, looks, options.show), totals)
    print(f"seed {options.seed}\n{table(totals)}")
    faults = sum((outcomes.faults for outcomes in totals.values()), Counter[str]())
    for fault, count in faults.most_common(40):
        print(f"FAULT {count:4} x {fault}")
    return 1 if faults else 0


Expected = tuple[list[Said], list[Said]]
Look = Callable[[Subject, Path, Target, random.Random, Expected], Seen]


@dataclass(frozen=True, slots=True)
class Round:
    """How many damages are tried, drawn from which seed, how each is looked at, and whether all are shown."""

    damages: int
    seed: int
    look: Look
    is_shown: bool


def run(folder: Path, targets: list[Target], plan: Round, totals: dict[str, Outcomes]) -> None:
    """Try so many damages, spread over the targets by their shares."""
    sound = folder / "sound"
    subject = build(sound)
    expected = _undamaged(folder, subject)
    shares = [target.share for target in targets]
    for number in range(plan.damages):
        # Each damage has a seed of its own, so that one can be repeated alone.
        draw = random.Random(f"{plan.seed} {number}")
        target = draw.choices(targets, shares)[0]
        copy = folder / "copy"
        shutil.copytree(sound, copy)
        try:
            told = damage(copy, target, draw)
            seen = in_process(partial(plan.look, subject, copy, target, draw, expected))
        finally:
            shutil.rmtree(copy)
        count(totals[target.name], seen)
        if plan.is_shown or seen.faults:
            print(f"{number}: {target.name}: {told}: {_outcome(seen)}", flush=True)


def _quick_folder() -> str | None:
    """A folder in memory, if there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a new folder is made in it


def _undamaged(folder: Path, subject: Subject) -> tuple[list[Said], list[Said]]:
    """Ask the sound store, and the state before the last transaction in its log."""
    found = []
    for has_log in (True, False):
        copy = folder / "copy"
        shutil.copytree(subject.store.parent, copy)
        if not has_log:
            (copy / "graph.db-wal").unlink()
        seen = Seen()
        found.append(answers(_at(subject, copy), seen))
        shutil.rmtree(copy)
        if seen.refused or seen.faults or seen.quota_open or not found[-1]:
            raise SystemExit(f"the sound store is not served: {seen}")
    return found[0], found[1]


def _at(subject: Subject, folder: Path) -> Subject:
    return Subject(folder / "graph.db", *(getattr(subject, name) for name in Subject.__slots__[1:]))


def damage(folder: Path, target: Target, draw: random.Random) -> str:
    """Damage a file; returns what was done."""
    path = draw.choice(sorted(path for path in folder.glob(target.pattern) if path.is_file() and path.stat().st_size))
    if target.change is not None:
        return target.change(path, draw)
    how = draw.choice(target.how)
    data = bytearray(path.read_bytes())
    used = data[: target.used_bytes or len(data)]
    rest = data[len(used) :]
    how(used, draw)
    path.write_bytes(used + rest)
    return f"{path.name}: {how.__name__}"


def look_served(subject: Subject, folder: Path, _target: Target, _draw: random.Random, _expected: Expected) -> Seen:
    """Serve a damaged store, and ask it over HTTP."""
    seen = Seen()
    ask_server(_at(subject, folder), seen)
    return seen


def look(subject: Subject, folder: Path, target: Target, draw: random.Random, expected: Expected) -> Seen:
    """Ask a damaged store, and run what reads the file."""
    subject, seen = _at(subject, folder), Seen()
    if target.is_served:
        found = answers(subject, seen)
        if found:
            compare(found, *expected, seen)
        code, text = command(seen, "check", "--store", subject.store)
        seen.named = code != 0
        if (seen.wrong or seen.denied) and (target.is_sealed or not (seen.named or target.is_torn)):
            seen.faults.append(
                f"{seen.wrong} wrong answers, {seen.denied} refusals ({seen.first}{seen.named * ', named'})"
            )
        if code and not text.strip():
            seen.faults.append("check: says nothing")
    else:
        resume_audit(subject, folder / AUDIT, seen)
    names = {"store": str(subject.store), "folder": str(folder), "client": subject.client[0]}
    chosen = draw.sample(target.commands, min(2, len(target.commands)))
    for arguments in target.commands[:1] if target.is_served else ():
        chosen = [arguments, *[other for other in chosen if other != arguments][:1]]
    for arguments in chosen:
        code, _ = command(seen, *(argument.format(**names) for argument in arguments))
        seen.named = seen.named or code != 0
    return seen


def in_process(work: Callable[[], Seen]) -> Seen:
    """Run in a process of its own, which has so much time and memory."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run_bounded(work, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        is_hang = number in (signal.SIGALRM, signal.SIGXCPU, signal.SIGKILL)
        return Seen(faults=[f"{'hang' if is_hang else 'crash'}: {signal.Signals(number).name}"])
    return Seen(**json.loads(told)) if told else Seen(faults=["crash: ended without a word"])


def _run_bounded(work: Callable[[], Seen], writing: int) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(WALL_SECONDS)
        told = json.dumps(asdict(work()))
        with os.fdopen(writing, "w") as pipe:
            pipe.write(told)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the parent's code must not go on here
        traceback.print_exc()
    finally:
        os._exit(1)


def count(outcomes: Outcomes, seen: Seen) -> None:
    """Add what came of one damage."""
    outcomes.tried += 1
    outcome = _outcome(seen)
    for name in ("refused", "harmless", "unavailable", "denied", "wrong"):
        setattr(outcomes, name, getattr(outcomes, name) + (outcome == name))
    outcomes.wrong_answers += seen.wrong
    outcomes.unnoticed += seen.wrong > 0 and not seen.named
    outcomes.older += seen.older > 0
    outcomes.quota_open += seen.quota_open > 0
    outcomes.named += seen.named
    outcomes.faults.update(set(seen.faults))


def _outcome(seen: Seen) -> str:
    if seen.faults:
        return f"FAULT {seen.faults}"
    if seen.refused:
        return "refused"
    if seen.wrong:
        return "wrong"
    if seen.denied:
        return "denied"
    return "unavailable" if "503" in seen.statuses else "harmless"


_HEADS = "damaged tried refused 503 harmless denied wrong answers unnoticed named faults"


def table(totals: dict[str, Outcomes]) -> str:
    """Print the outcomes, a line for each kind of file."""
    rows = [_HEADS.split(), *([name, *_numbers(outcomes)] for name, outcomes in totals.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    older, opened = (sum(getattr(outcomes, name) for outcomes in totals.values()) for name in ("older", "quota_open"))
    return "\n".join([*lines, f"answered from an older state: {older}; quota given again: {opened}"])


def _numbers(outcomes: Outcomes) -> list[str]:
    counts = (outcomes.refused, outcomes.unavailable, outcomes.harmless, outcomes.denied, outcomes.wrong)
    more = (outcomes.wrong_answers, outcomes.unnoticed, outcomes.named, sum(outcomes.faults.values()))
    return [str(number) for number in (outcomes.tried, *counts, *more)]


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(code)
