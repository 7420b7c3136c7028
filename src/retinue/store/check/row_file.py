"""The invariant of the row file: its rows are those of the store."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from retinue.store.layout.accounts import LAST_ID, LAST_REVISION, changed_after
from retinue.store.layout.sealing import content_of, number_of, unseal
from retinue.store.layout.stored_accounts import decode_account
from retinue.store.layout.tables import ACCOUNT, META, STORE_ID, Source
from retinue.store.reading.row_file import SLOTS_AT_ONCE, RowFile, Slots
from retinue.store.reading.row_file_update import EncodeText, text_of


def wrong_rows(source: Source, path: Path, encode: EncodeText) -> Iterator[str]:
    """Yield rows that differ from their accounts.

    The source must return the newest state. Empty slots, and rows that changed after the file's revision, are valid:
    readers ask the store.
    """
    file = None
    with suppress(OSError, ValueError):
        file = RowFile(path)
    if file is None or file.state.store != (content_of(source, META, STORE_ID) or b"").hex():
        return  # no reader uses it
    first, last = 0, 1
    while first <= last:
        revision, found = file.state.revision, file.slots(first)
        last = number_of(source, LAST_ID)  # afterwards: accounts may have been added meanwhile
        ids = range(first, min(last + 1, first + SLOTS_AT_ONCE))
        wrong = [(account_id, how) for account_id, how in _differences(source, ids, found, encode) if how]
        changed = changed_after(source, revision, number_of(source, LAST_REVISION)) if wrong else set()
        for account_id, how in wrong:
            if changed is not None and account_id not in changed:  # else readers do not use the row
                yield f"the row of account {account_id} {how}"
        first += SLOTS_AT_ONCE


def _differences(source: Source, ids: range, found: Slots, encode: EncodeText) -> Iterator[tuple[int, str]]:
    for account_id, value, text, is_whole, is_empty in zip(ids, source.get(ACCOUNT, ids), *found, strict=False):
        if is_empty:
            continue
        if not is_whole:
            yield account_id, "is damaged"
        elif value is None:
            yield account_id, "is of no account"
        elif text != text_of(decode_account(account_id, unseal(ACCOUNT, account_id, value)), encode):
            yield account_id, "is not what the store has"
