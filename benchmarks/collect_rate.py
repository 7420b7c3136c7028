"""How fast `retinue collect` reads 1,000 lists of 100 pages each, on one core, and in how much memory.

A graph in which each of 1,000 accounts follows the same 10,000 is served on one core; the collector has another one to
itself. Printed is what it says of its pace, and the largest its memory was, tables included.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from graphs import kept
from process_tree import require_cores
from running import Failed, Server, create_client, on_cores, retinue, running_server

OWNERS, FOLLOWEES = 1_000, 10_000
SERVER_CORE, COLLECTOR_CORE = 0, 1
_FIRST_SECOND = 1_500_000_000


def main() -> int:
    """Prepare, measure, report; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--owners", type=int, default=OWNERS)
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args()
    try:
        require_cores(SERVER_CORE, COLLECTOR_CORE)
        graph = kept(f"lists-{options.owners}-{FOLLOWEES}", lambda folder: _make(folder, options.owners))
        store = graph / "graph.db"
        access = create_client(store)
        with running_server(store, "--workers", "1", core=SERVER_CORE) as server:
            environment = {"RETINUE_CLIENT_KEY": access.key, "RETINUE_CLIENT_SECRET": access.secret}
            _collect(graph, server, environment, options.concurrency)
    except Failed as failure:
        sys.stderr.write(f"collect_rate: {failure}\n")
        return 1
    return 0


def _collect(graph: Path, server: Server, environment: dict[str, str], concurrency: int) -> None:
    folder = graph / "collection"
    shutil.rmtree(folder, ignore_errors=True)
    names = ("--usernames", str(graph / "names.txt"), "-o", str(folder))
    limits = ("--concurrency", str(concurrency), "--calls-per-day", "10000000")
    command = [sys.executable, "-m", "retinue", "collect", *names, "--server", server.base_url, *limits]
    process = subprocess.Popen(on_cores(COLLECTOR_CORE, command), env=os.environ | environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"retinue collect ended with exit code {process.returncode}")
    seconds, mebibytes = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(f"processor time {seconds:.1f} s, most memory {mebibytes:.0f} MiB, tables included")
    print(retinue("collect", "verify", folder), end="")


def _make(folder: Path, owners: int) -> None:
    names = [f"owner{number:04}" for number in range(owners)]
    (folder / "names.txt").write_text("\n".join(names))
    with (folder / "follows.csv").open("w") as file:
        file.write("follower,followee,followed_at\n")
        for name in names:
            file.writelines(f"{name},somebody.{rank},{_FIRST_SECOND + 60 * rank}\n" for rank in range(FOLLOWEES))
    retinue("import", "--store", folder / "graph.db", folder / "follows.csv")
    (folder / "follows.csv").unlink()


if __name__ == "__main__":
    sys.exit(main())
