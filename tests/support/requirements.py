"""Programs that tests need of a machine."""

import os

import pytest


def require(reason: str) -> None:
    """Skip the test if it cannot run here; fail it if CI=true."""
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
