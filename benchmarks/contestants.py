"""The three servers of `make bench`, each with all its processes on one core, and what each of them is asked.

Retinue with everything on; the hand-made service; and nginx, which sends as files what Retinue has answered. Before
anything is measured a sample of answers of the first two is compared, row by row.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from figures import HANDMADE, LIMIT, OURS
from handmade.load import load, warm
from nginx import running_nginx, write_pages
from postgres import Cluster, make_cluster, running_cluster
from running import AMPLE_LIMITS, Client, Failed, Server, Session, fresh_token, running, running_server
from traffic import BODIES, SEED, Traffic

PAGES = 4000
COMPARED = 300

Bodies = Mapping[int, Sequence[bytes]]  # by max_count


@dataclass(frozen=True, slots=True)
class Place:
    """Where servers run and what they are made of: a folder that goes away, the graph's folder, a core."""

    folder: Path
    graph: Path
    core: int

    def part(self, name: str) -> Path:
        """A folder within, made if absent."""
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path


@dataclass(frozen=True, slots=True)
class Contestant:
    """A running server: its name, all processes from which its others descend, and its requests by max_count."""

    name: str
    server: Server
    roots: tuple[int, ...]
    traffic: Mapping[int, Traffic]


# --- Retinue --------------------------------------------------------------------------------------------------------


@contextmanager
def retinue_contestant(place: Place, bodies: Bodies) -> Iterator[Contestant]:
    """One worker and the coordinator, with tokens, quotas, a short-term limit, audit and metrics."""
    store = place.graph / "graph.db"
    flags = ("--workers", "1", "--audit-folder", place.part("audit"))
    with running_server(store, *flags, core=place.core) as server:
        token = fresh_token(server, store, *AMPLE_LIMITS)
        yield Contestant(OURS, server, (server.pid,), _posted(place, bodies, token))


def _posted(place: Place, bodies: Bodies, token: str) -> dict[int, Traffic]:
    files = {max_count: place.folder / f"bodies-{max_count}.jsonl" for max_count in bodies}
    for max_count, file in files.items():
        file.write_bytes(b"\n".join(bodies[max_count]))
    return {max_count: Traffic(file, token) for max_count, file in files.items()}


# --- the hand-made service ------------------------------------------------------------------------------------------


def load_handmade(place: Place) -> Client:
    """Fill a database of its own; who may ask."""
    folder = place.part("postgres")
    make_cluster(folder)
    with running_cluster(folder, {"fsync": "off"}) as cluster:
        files = place.graph / "accounts.parquet", place.graph / "follows.parquet"
        return load(cluster, *files, place.part("scratch"))


@contextmanager
def handmade_contestant(place: Place, bodies: Bodies, client: Client) -> Iterator[Contestant]:
    """The hand-made service, uvicorn and PostgreSQL, both on the one core."""
    with running_cluster(place.part("postgres"), core=place.core) as cluster:
        warm(cluster)
        command = [sys.executable, str(Path(__file__).with_name("handmade_server.py")), cluster.address]
        with running(command, core=place.core) as server:
            with Session(server.base_url) as session:
                token = session.token(client)
            yield Contestant(HANDMADE, server, _roots(server, cluster), _posted(place, bodies, token))


def _roots(server: Server, cluster: Cluster) -> tuple[int, ...]:
    return server.pid, cluster.pid


# --- nginx ----------------------------------------------------------------------------------------------------------


@contextmanager
def nginx_contestant(place: Place, ours: Contestant, bodies: Bodies) -> Iterator[Contestant]:
    """Files with what Retinue answered to the first bodies; few of them are asked for often and most seldom."""
    folder, random = place.part("nginx"), np.random.default_rng(SEED)
    traffic = {}
    for max_count, all_bodies in bodies.items():
        with Session(ours.server.base_url, ours.traffic[max_count].token) as session:
            pages = [session.raw_page(body) for body in all_bodies[:PAGES]]
        paths = write_pages(folder, str(max_count), pages)
        shares = 1.0 / np.arange(1, len(paths) + 1)
        file = place.folder / f"paths-{max_count}.txt"
        file.write_text("\n".join(random.choice(paths, size=BODIES, p=shares / shares.sum()).tolist()))
        traffic[max_count] = Traffic(file, "")
    with running_nginx(folder, core=place.core) as server:
        yield Contestant(LIMIT, server, (server.pid,), traffic)


# --- do they answer alike? ------------------------------------------------------------------------------------------


def require_same_answers(ours: Contestant, theirs: Contestant, bodies: Bodies) -> int:
    """Compare what both say to the same requests; how many were compared. Raises `Failed` at the first difference."""
    count = 0
    for max_count, all_bodies in bodies.items():
        sample = all_bodies[:: max(1, len(all_bodies) // COMPARED)]
        sessions = [Session(each.server.base_url, each.traffic[max_count].token) for each in (ours, theirs)]
        with sessions[0] as mine, sessions[1] as others:
            for body in sample:
                found = [_without_log_id(session.raw_page(body)) for session in (mine, others)]
                if found[0] != found[1]:
                    raise Failed(f"{body.decode()}\nis answered differently:\n{found[0]}\n{found[1]}")
        count += len(sample)
    return count


def _without_log_id(answer: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(answer)
    del decoded["error"]["log_id"]
    return decoded
