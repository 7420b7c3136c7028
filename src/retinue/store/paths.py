"""Names of this machine's files that belong to a store."""

from pathlib import Path

from msgspec import Struct


class StorePaths(Struct, frozen=True):
    """Names of files and folders beside a store, which may not exist.

    `base` gives their names: `graph.quotas` for `graph.db`. A server locks `lock`.
    """

    base: Path
    lock: Path

    @property
    def quotas(self) -> Path:
        """The counters of quotas."""
        return self.beside("quotas")

    @property
    def rows(self) -> Path:
        """The row file."""
        return self.beside("rows")

    @property
    def rejects(self) -> Path:
        """The rows that an import left out."""
        return self.base.with_suffix(".rejects.jsonl")

    def audit_folder(self, named: str = "") -> Path:
        """Return the folder of the audit log, maybe from a setting."""
        return Path(named) if named else self.beside("audit")

    def management_token(self, named: str = "") -> Path:
        """Return the file of the management token, maybe from a setting."""
        return Path(named) if named else self.beside("management-token")

    def beside(self, ending: str) -> Path:
        """Return the path of a file beside the store."""
        return self.base.with_name(f"{self.base.name.removesuffix('.db')}.{ending}")


class Reach(Struct, frozen=True):
    """Files and TCP ports that a server's processes use."""

    changed: list[Path]
    read: list[Path] = []
    ports: list[int] = []
