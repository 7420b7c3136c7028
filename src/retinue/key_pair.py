"""A TLS certificate and its private key, read from PEM files."""

import os
import re
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from retinue.errors import InputError

MAX_PEM_BYTES = 1024 * 1024
_CERTIFICATE = re.compile(rb"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----")
_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# The last one is OpenSSL's for a key of another kind.
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate chain and its private key, as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Use this pair in a context. Raises `InputError` or `ssl.SSLError`."""
        # `ssl` reads files only, so these are files in memory.
        with _memory_file(self.certificate) as certificate, _memory_file(self.key) as key:
            context.load_cert_chain(certificate, key, password=_refuse_passphrase)


def read_key_pair(certificate: Path, key: Path) -> KeyPair:
    """Read a matching pair from one or two files. Raises `InputError`."""
    pair = KeyPair(_content(certificate, _CERTIFICATE, "certificate"), _content(key, _KEY, "private key"))
    try:
        pair.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    except ssl.SSLError as error:
        if error.reason in _MISMATCHES:
            raise InputError(
                f"{key}: this private key does not belong to the first certificate in {certificate}; "
                "replace both files together"
            ) from error
        raise InputError(f"{certificate}, {key}: unusable for TLS: {error}") from error
    except InputError as error:
        raise InputError(f"{key}: {error}") from error
    return pair


def _content(path: Path, pem: re.Pattern[bytes], what: str) -> bytes:
    try:
        with path.open("rb") as file:
            if pem is _KEY:
                _require_private(path, os.fstat(file.fileno()))
            content = file.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: the {what} cannot be read: {error.strerror}") from error
    if len(content) > MAX_PEM_BYTES or not pem.search(content):
        raise InputError(f"{path}: holds no {what}: expected PEM of at most {MAX_PEM_BYTES} bytes")
    return content


def _require_private(path: Path, status: os.stat_result) -> None:
    # A key of root may be readable by its group, as in distributions and Kubernetes.
    is_handed_over = status.st_uid == 0 != os.geteuid()
    allowed = stat.S_IRGRP if is_handed_over else 0
    if status.st_mode & _OTHERS & ~allowed:
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        raise InputError(f"{path}: other users may use this private key (mode {mode}); run `chmod 600 {path}`")


def _refuse_passphrase() -> str:
    raise InputError("the private key is encrypted; decrypt it with `openssl pkey`, into a file of mode 0600")


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("pem")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"
