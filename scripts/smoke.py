"""Test that Retinue works with only `retinue[server]` installed.

Part of `make test-lowest`. The tools of the tests install packages that users may lack, so the tests would not notice
a missing dependency.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from running import create_client, retinue, running_server

TABLES = ("csv", "parquet")


def main() -> None:
    """Generate, import, export, check, serve and collect, with every format. Raises `running.Failed`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = [imported(folder, kind) for kind in TABLES]
        for kind in (*TABLES, "jsonl", "graphml"):
            retinue("export", "--store", stores[0], "--format", kind, folder / kind)
        collect(stores[0], folder)
    print("generate, import, export, check, serve and collect work")


def imported(folder: Path, kind: str) -> Path:
    """Create a store from a sample graph in files of one kind."""
    sample, store = folder / f"sample-{kind}", folder / f"{kind}.db"
    retinue("generate", "--accounts", "100", "--follows", "1000", "--format", kind, "-o", sample)
    retinue("import", "--store", store, "--accounts", sample / f"accounts.{kind}", sample / f"follows.{kind}")
    retinue("check", "--store", store)
    return store


def collect(store: Path, folder: Path) -> None:
    """Collect a list from a server."""
    client = create_client(store)
    (folder / "names").write_text("test_user\n")
    with running_server(store) as server:
        service = ("--server", server.base_url, "--client-key", client.key, "--client-secret", client.secret)
        retinue(
            "collect",
            "--usernames",
            folder / "names",
            "-o",
            folder / "c",
            "--format",
            "csv,parquet,jsonl,graphml",
            *service,
        )


if __name__ == "__main__":
    main()
