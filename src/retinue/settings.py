"""Every setting of the server: name, default, help, in one table. The only file that may know the environment's names.

The CLI makes its flags of this table and `docs/reference.md` is printed from it, so each setting is declared once.
"""

from dataclasses import dataclass, field, fields
from typing import Any

ENVIRONMENT_PREFIX = "RETINUE_"
LOG_LEVELS = ("error", "warning", "info", "debug")
LOG_FORMATS = ("text", "json")


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one server is to run."""

    store: str = _setting(
        "retinue.db", "Store: the path of a SQLite file, or cassandra://host[:port][,host...]/keyspace."
    )
    host: str = _setting("127.0.0.1", "Address the public listener binds to.")
    port: int = _setting(8642, "Port of the public listener.")
    workers: int = _setting(1, "Worker processes that answer requests.")
    management_port: int = _setting(8643, "Port of the management listener, always on 127.0.0.1.")
    management_token_file: str = _setting(
        "", "File with the token that opens the management listener. Default: beside the store."
    )
    management_hosts: str = _setting(
        "",
        "Host names by which the management listener may be asked, beside localhost and loopback addresses, with commas"
        " between.",
    )
    audit_folder: str = _setting("", "Folder of the audit log. Default: beside the store.")
    audit_file_mib: int = _setting(64, "A new file of the audit log is begun at this size, in MiB.")
    audit_file_hours: int = _setting(24, "A new file of the audit log is begun after so many hours.")
    audit_keep_days: int = _setting(365, "Files of the audit log are removed after so many days; 0 keeps all.")
    audit_max_mib: int = _setting(
        0, "Size of the whole audit log, in MiB, at which requests are refused until it is smaller; 0 sets no bound."
    )
    sandbox: bool = _setting(
        False, "For tests of clients: let the management API put the server's clock forward and set faults."
    )
    faults: str = _setting(
        "", "Faults on purpose, in a sandbox: documented, tiktok-2024 or hostile, and name=value, with commas between."
    )
    fault_seed: int = _setting(0, "Seed of what is drawn of the faults.")
    row_cache_mib: int = _setting(
        128, "Memory of each worker for rows that are read often, in MiB; 0 turns this cache off."
    )
    max_connections: int = _setting(
        4096, "Connections one worker serves at once; who comes beyond that gets a quick 503."
    )
    tls_cert: str = _setting("", "Certificate chain (PEM) for HTTPS on the public listener.")
    tls_key: str = _setting("", "Private key (PEM) of the certificate; refused if other users may read it.")
    trusted_proxies: str = _setting(
        "", "Proxies whose X-Forwarded-For is believed: addresses and networks, with commas between."
    )
    no_confinement: bool = _setting(
        False, "Do not restrict what the server's own processes may open and start, such as for a debugger."
    )
    log_level: str = _setting("warning", f"What to log: {', '.join(LOG_LEVELS)}.")
    log_format: str = _setting("text", f"How to log: {', '.join(LOG_FORMATS)}.")


def environment_name(flag: str) -> str:
    """The environment twin of a flag: `management-port` or `management_port` gives `RETINUE_MANAGEMENT_PORT`."""
    return ENVIRONMENT_PREFIX + flag.replace("-", "_").upper()


def default_of(name: str) -> Any:
    """A setting's default."""
    return _table()[name].default


def help_of(name: str) -> str:
    """A setting's help text."""
    return str(_table()[name].metadata["help"])


def setting_names() -> list[str]:
    """All settings, in the order of the table."""
    return list(_table())


def _table() -> dict[str, Any]:
    return {each.name: each for each in fields(Settings)}
