"""Programs that tests need of a machine."""

import os

import pytest


def require(reason: str) -> None:
    """Skip the test if there is a reason why it cannot run here; fail it if CI=true, where all can be installed."""
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
