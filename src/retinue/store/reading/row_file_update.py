"""Keeping the row file up to date with its store."""

from collections.abc import Callable
from pathlib import Path

from retinue.store.layout.accounts import LAST_ID, LAST_REVISION, changed_after
from retinue.store.layout.sealing import content_of, number_of, unseal
from retinue.store.layout.stored_accounts import StoredAccount, decode_account
from retinue.store.layout.tables import ACCOUNT, META, STORE_ID, Source
from retinue.store.reading.row_file import TEXT_BYTES, RowFileWriter, State

MAX_CHANGES = 10_000  # in one step
MAX_NEW = 20_000

EncodeText = Callable[[str, str], bytes]  # of a display name and a username: the part of a row that is stored


class RowFileUpdate:
    """The updates of a store's row file. `boot` names this start of the machine."""

    def __init__(self, path: Path, source: Source, encode: EncodeText, boot: str) -> None:
        self._path = path
        self._source = source
        self._encode = encode
        self._boot = boot
        self._file: RowFileWriter | None = None
        self._state = State()

    def step(self) -> bool:
        """Write some changed or new rows; return whether more remain."""
        store = (content_of(self._source, META, STORE_ID) or b"").hex()
        if self._file is None or self._file.state().store != self._state.store:
            self._open(store)
        assert self._file is not None
        revision, last_id = number_of(self._source, LAST_REVISION), number_of(self._source, LAST_ID)
        is_ahead = revision < self._state.revision or last_id < self._state.last_id  # the store is an older copy
        is_behind = revision - self._state.revision > MAX_CHANGES
        if is_ahead or is_behind or (revision > self._state.revision and not self._write_changed(revision)):
            self._replace(store)
        first, last = self._state.last_id + 1, min(last_id, self._state.last_id + MAX_NEW)
        self._write(range(first, last + 1))
        self._save(State(store, self._boot, revision, last))
        return last < last_id

    def close(self) -> None:
        """Make the file survive a restart of the machine, and close it."""
        if self._file is not None:
            self._file.sync()
            self._save(State(self._state.store, "", self._state.revision, self._state.last_id))
            self._file.close()
            self._file = None

    def _open(self, store: str) -> None:
        """Open the file. Replace it if it is another store's, or rows may be lost."""
        self._file = RowFileWriter(self._path)
        self._state = self._file.state()
        if self._state.store != store or self._state.boot not in ("", self._boot):
            self._replace(store)

    def _replace(self, store: str) -> None:
        """Start with an empty file."""
        assert self._file is not None
        self._file.clear()
        self._state = State(store, self._boot, number_of(self._source, LAST_REVISION))

    def _save(self, state: State) -> None:
        if state != self._state:
            assert self._file is not None
            self._file.save_state(state)
            self._state = state

    def _write_changed(self, revision: int) -> bool:
        """Write changed rows; return False if the list of changes is incomplete."""
        changed = changed_after(self._source, self._state.revision, revision)
        for account_id in sorted(changed or ()):
            if account_id <= self._state.last_id:
                self._write(range(account_id, account_id + 1))
        return changed is not None

    def _write(self, ids: range) -> None:
        assert self._file is not None
        values, encode = self._source.get(ACCOUNT, ids), self._encode
        texts = [
            None if value is None else text_of(decode_account(account_id, unseal(ACCOUNT, account_id, value)), encode)
            for account_id, value in zip(ids, values, strict=True)
        ]
        self._file.write(ids, texts)


def text_of(account: StoredAccount | None, encode: EncodeText) -> bytes | None:
    """Return an account's text in the file. None: it is too long."""
    if account is None or not account.is_visible:
        return b""
    text = encode(account.display_name, account.username)
    return text if len(text) <= TEXT_BYTES else None


def boot_id() -> str:
    """Return a name for this start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
