"""Search for inputs that crash a parser of external bytes.

`tests/support/fuzz_targets.py` has the targets. With atheris the search follows the code that an input reaches. If it
has no wheel for this Python, the corpus is changed at random. An input that crashes a parser is written into the
corpus, so the tests fail until the parser is repaired.
"""

import argparse
import hashlib
import importlib.util
import os
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "tests" / "corpus"
FOUND = ROOT / ".cache" / "fuzz"  # inputs that reached new code; a later run begins with them
_LONGEST_INPUT = 8_192
_SLOWEST_SECONDS = 60


def main() -> int:
    """Fuzz the chosen targets one after the other; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", help="all if none is named")
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "long"), str(ROOT / "benchmarks")]
    if options.child:
        _fuzz(options.child, options.seconds, options.seed)
    known = sorted(path.name for path in CORPUS.iterdir())
    if unknown := set(options.targets) - set(known):
        parser.error(f"unknown target {min(unknown)!r}; targets are {', '.join(known)}")
    print(f"seed {options.seed}, {'atheris' if _has_atheris() else 'random changes (atheris is not installed)'}")
    crashed = [name for name in options.targets or known if not _passes(name, options.seconds, options.seed)]
    print(f"crashes: {', '.join(crashed) or 'none'}")
    return 1 if crashed else 0


def _has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def _passes(name: str, seconds: int, seed: int) -> bool:
    """Fuzz a target in a process of its own."""
    before = set((CORPUS / name).iterdir())
    command = [sys.executable, __file__, "--child", name, "--seconds", str(seconds), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    if done.returncode == 0:
        print(f"{name}: {_count_in(done.stdout + done.stderr)} inputs, no crash", flush=True)
        return True
    new = ", ".join(str(path.relative_to(ROOT)) for path in sorted(set((CORPUS / name).iterdir()) - before))
    print(f"{name}: CRASH, kept as {new or 'nothing'}\n{_failure_in(done.stdout + done.stderr)}", flush=True)
    return False


def _failure_in(text: str) -> str:
    """Return the traceback, without the statistics that follow."""
    start = text.find("Traceback")
    return text[start : start + 3000] if start >= 0 else text[-3000:]


def _count_in(text: str) -> str:
    lines = [line.split()[-1] for line in text.splitlines() if "number_of_executed_units" in line]
    return f"{int(lines[-1]):,}" if lines else "?"


def _fuzz(name: str, seconds: int, seed: int) -> NoReturn:
    if _has_atheris():
        _with_coverage(name, seconds, seed)
    _at_random(name, seconds, seed)


def _with_coverage(name: str, seconds: int, seed: int) -> NoReturn:
    import atheris  # noqa: PLC0415 - it has wheels for some versions of Python only

    with atheris.instrument_imports(include=["retinue", "support.fuzz_targets"]):
        from support.fuzz_targets import TARGETS  # noqa: PLC0415 - the same
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-max_len={_LONGEST_INPUT}", f"-timeout={_SLOWEST_SECONDS}"]
    flags = [f"-seed={seed % 2**32 or 1}", "-print_final_stats=1", f"-artifact_prefix={CORPUS / name}/"]
    atheris.Setup([sys.argv[0], *limits, *flags, str(found), str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()
    sys.exit(0)


def _at_random(name: str, seconds: int, seed: int) -> NoReturn:
    from damage_kinds import ON_TEXT  # noqa: PLC0415 - in a folder that was just added
    from support.fuzz_targets import TARGETS  # noqa: PLC0415 - the same

    draw, count = random.Random(seed), 0  # noqa: S311 - seeded on purpose
    inputs = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        data = bytearray(draw.choice(inputs))
        for _ in range(draw.randint(0, 5)):
            if data:
                draw.choice(ON_TEXT)(data, draw)
        try:
            TARGETS[name](bytes(data))
        except Exception:  # noqa: BLE001 - this is what is looked for
            traceback.print_exc()
            (CORPUS / name / f"crash-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            sys.exit(1)
        count += 1
    print(f"number_of_executed_units: {count}")
    sys.exit(0)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
