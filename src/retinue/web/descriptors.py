"""A spare file descriptor, for the moment in which a process may open no more files."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class SpareDescriptor:
    """A descriptor that is kept open, and given up for as long as another one is needed."""

    def __init__(self) -> None:
        self._descriptor: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Close the spare descriptor during the block; what the block opens it must close."""
        self.close()
        try:
            yield
        finally:
            try:
                self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # another thread took it; the next use has none to lend
                self._descriptor = None

    def close(self) -> None:
        """Close the spare descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
