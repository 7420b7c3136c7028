"""`retinue serve` and `retinue openapi`."""

from typing import Annotated

from retinue.cli.commands import StoreUrl, setting
from retinue.cli.output import greet, print_document
from retinue.settings import Settings, default_of


def serve(
    store: StoreUrl = default_of("store"),
    host: Annotated[str, setting("host")] = default_of("host"),
    port: Annotated[int, setting("port")] = default_of("port"),
    workers: Annotated[int, setting("workers")] = default_of("workers"),
    management_port: Annotated[int, setting("management_port")] = default_of("management_port"),
    management_token_file: Annotated[str, setting("management_token_file")] = default_of("management_token_file"),
    management_hosts: Annotated[str, setting("management_hosts")] = default_of("management_hosts"),
    audit_folder: Annotated[str, setting("audit_folder")] = default_of("audit_folder"),
    audit_file_mib: Annotated[int, setting("audit_file_mib")] = default_of("audit_file_mib"),
    audit_file_hours: Annotated[int, setting("audit_file_hours")] = default_of("audit_file_hours"),
    audit_keep_days: Annotated[int, setting("audit_keep_days")] = default_of("audit_keep_days"),
    audit_max_mib: Annotated[int, setting("audit_max_mib")] = default_of("audit_max_mib"),
    sandbox: Annotated[bool, setting("sandbox")] = default_of("sandbox"),
    faults: Annotated[str, setting("faults")] = default_of("faults"),
    fault_seed: Annotated[int, setting("fault_seed")] = default_of("fault_seed"),
    block_cache_mib: Annotated[int, setting("block_cache_mib")] = default_of("block_cache_mib"),
    cache_dir: Annotated[str, setting("cache_dir")] = default_of("cache_dir"),
    max_connections: Annotated[int, setting("max_connections")] = default_of("max_connections"),
    tls_cert: Annotated[str, setting("tls_cert")] = default_of("tls_cert"),
    tls_key: Annotated[str, setting("tls_key")] = default_of("tls_key"),
    trusted_proxies: Annotated[str, setting("trusted_proxies")] = default_of("trusted_proxies"),
    no_confinement: Annotated[bool, setting("no_confinement")] = default_of("no_confinement"),
    log_level: Annotated[str, setting("log_level")] = default_of("log_level"),
    log_format: Annotated[str, setting("log_format")] = default_of("log_format"),
) -> None:
    """Serve a store until SIGTERM or Ctrl-C. Requests in flight are finished."""
    settings = Settings(**locals())  # the parameters are its fields, by the same names
    from retinue.serving import supervisor
    from retinue.store.open import open_store

    def announce(public: str, management: str) -> None:
        greet(f"Serving {open_store(store)} on {public} (management on {management}). Ctrl-C stops.")
        if faults:
            greet(f"Fault injection is enabled: {faults}.")

    supervisor.serve(settings, announce)


def openapi() -> None:
    """Print the OpenAPI document of the public API."""
    from retinue.web.openapi import document

    print_document(document())
