"""The settings of the server, of which flags and `docs/reference.md` are made."""

from dataclasses import dataclass, field, fields
from typing import Any

ENVIRONMENT_PREFIX = "RETINUE_"
LOG_LEVELS = ("error", "warning", "info", "debug")
LOG_FORMATS = ("text", "json")


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one server."""

    store: str = _setting(
        "retinue.db", "Store: the path of a SQLite file, or cassandra://host[:port][,host...]/keyspace."
    )
    host: str = _setting("127.0.0.1", "Address of the public listener.")
    port: int = _setting(8642, "Port of the public listener.")
    workers: int = _setting(1, "Number of worker processes.")
    management_port: int = _setting(8643, "Port of the management listener, always on 127.0.0.1.")
    management_token_file: str = _setting(
        "", "File with the token for the management listener. Default: beside the store."
    )
    management_hosts: str = _setting(
        "",
        "Accepted host names of the management listener, in addition to localhost and loopback addresses, separated by"
        " commas.",
    )
    audit_folder: str = _setting("", "Folder of the audit log. Default: beside the store.")
    audit_file_mib: int = _setting(64, "Size at which the audit log starts a new file, in MiB.")
    audit_file_hours: int = _setting(24, "Hours after which the audit log starts a new file.")
    audit_keep_days: int = _setting(365, "Days after which files of the audit log are removed; 0 keeps all.")
    audit_max_mib: int = _setting(
        0, "Maximum size of the audit log, in MiB, above which requests are refused; 0 is no limit."
    )
    sandbox: bool = _setting(
        False, "For tests of clients: allow the management API to set the clock forward and to inject faults."
    )
    faults: str = _setting(
        "", "Injected faults in a sandbox: documented, tiktok-2024 or hostile, and name=value, separated by commas."
    )
    fault_seed: int = _setting(0, "Seed of the faults.")
    block_cache_mib: int = _setting(
        128, "Memory of each worker for parts of lists that are read often, in MiB; 0 turns this block cache off."
    )
    cache_dir: str = _setting(
        "",
        "For a cluster: folder of this machine's file of encoded rows, which a server builds again if it is missing."
        " Default: the current folder.",
    )
    max_connections: int = _setting(4096, "Maximum connections of a worker; more of them get a quick 503.")
    tls_cert: str = _setting("", "Certificate chain (PEM) for HTTPS on the public listener.")
    tls_key: str = _setting("", "Private key (PEM) of the certificate; refused if other users can read it.")
    trusted_proxies: str = _setting(
        "", "Proxies with a trusted X-Forwarded-For: addresses and networks, separated by commas."
    )
    no_confinement: bool = _setting(False, "Do not confine the server's processes, such as for a debugger.")
    log_level: str = _setting("warning", f"Log level: {', '.join(LOG_LEVELS)}.")
    log_format: str = _setting("text", f"Log format: {', '.join(LOG_FORMATS)}.")


def environment_name(flag: str) -> str:
    """Return the environment twin of a flag: `management-port` has `RETINUE_MANAGEMENT_PORT`."""
    return ENVIRONMENT_PREFIX + flag.replace("-", "_").upper()


def default_of(name: str) -> Any:
    """Return a setting's default."""
    return _table()[name].default


def help_of(name: str) -> str:
    """Return a setting's help text."""
    return str(_table()[name].metadata["help"])


def _table() -> dict[str, Any]:
    return {each.name: each for each in fields(Settings)}
