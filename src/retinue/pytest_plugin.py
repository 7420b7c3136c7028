"""The pytest fixture `retinue_server`: a server with a graph for each test.

pytest imports this module in every run, so the server is imported only by the fixture.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retinue.local import LocalServer

# The default graph.
SAMPLE_ACCOUNTS = 100
SAMPLE_FOLLOWS = 1_000
SAMPLE_SEED = 1


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", "retinue(accounts=(), follows=()): the graph of `retinue_server`, as rows of import tables"
    )


@pytest.fixture
def retinue_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[LocalServer]":
    """Run a server with the marker's graph, or a sample."""
    try:
        from retinue.local import local_server
        from retinue.sample import SampleSize, write_sample
    except ModuleNotFoundError as error:
        raise pytest.UsageError(f"retinue_server needs {error.name}; pip install 'retinue[server]'") from error
    marker = request.node.get_closest_marker("retinue")
    folder = tmp_path_factory.mktemp("retinue")
    with local_server(folder) as server:
        if marker is None:
            size = SampleSize(SAMPLE_ACCOUNTS, SAMPLE_FOLLOWS, SAMPLE_SEED)
            server.load_files(*write_sample(size, folder / "sample"))
        else:
            server.load(*marker.args, **marker.kwargs)
        yield server
