"""Confinement of a server's processes, as far as the kernel allows it.

Other processes of the same user cannot read their memory, which contains tokens, and there are no core files. Their
children gain no rights. Workers and coordinator start no process, connect to their store alone, and open only the files
named here (Landlock). Open files and sockets stay usable.
"""

import logging
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import retinue
from retinue import confinement
from retinue.settings import Settings
from retinue.store.open import Store
from retinue.store.paths import Reach

_READ, _CHANGE = confinement.READ, confinement.READ | confinement.WRITE
_KEEP = _CHANGE | confinement.MAKE_REG | confinement.REMOVE_FILE  # of a folder: create and remove files too
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_SYSTEM = ("/proc", "/dev/urandom", "/etc/localtime", "/usr/share/zoneinfo")
# For a cluster's hosts. systemd replaces its list of name servers when the network changes.
_NAMES = ("/etc/resolv.conf", "/run/systemd/resolve", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf")
_NETWORK = (*_NAMES, "/etc/gai.conf", "/etc/ssl", "/etc/pki")
_DNS = 53  # over TCP if an answer is long
_LOGGER = logging.getLogger("retinue.serving")


def harden(settings: Settings) -> None:
    """Protect this process's memory, and keep it from gaining rights. Children inherit the latter."""
    if not settings.no_confinement:
        confinement.forbid_dumps()
        confinement.forbid_new_privileges()


def announce_confinement(settings: Settings) -> None:
    """Log the confinement of the server's processes."""
    version = confinement.landlock_version()
    if settings.no_confinement:
        _LOGGER.info("confinement: switched off")
    elif version:
        _LOGGER.info("confinement: memory closed to other processes, no core files; Landlock (ABI %d)", version)
    else:
        _LOGGER.info(
            "confinement: memory closed to other processes, no core files; not Landlock, which this system does not"
            " have or allow: workers may open every file of their user"
        )


def confine(settings: Settings, store: Store, role: str) -> None:
    """Restrict this process to the needs of its role.

    Call it before there are threads and before the store is opened.
    """
    if settings.no_confinement:
        return
    harden(settings)
    store.keep_temporary_in_memory()
    if not confinement.landlock_version():
        return
    reach = store.reach()
    try:
        restrict(_paths(settings, store, reach, role), [*reach.ports, _DNS] if reach.ports else [])
    except OSError as error:
        _LOGGER.warning("confinement: this process may open every file of its user: %s", error)


def restrict(paths: Mapping[Path, int], ports: Iterable[int]) -> None:
    """Give up all other rights over files and TCP. Raises `OSError`."""
    handled = confinement.BIND_TCP | confinement.CONNECT_TCP
    scopes = confinement.ABSTRACT_SOCKETS | confinement.SIGNALS
    with closing(confinement.Ruleset(files=confinement.ALL_FILES, ports=handled, scopes=scopes)) as rules:
        for path, rights in paths.items():
            if path.exists():
                rules.allow_path(str(path), rights)
        rules.allow_ports(ports, confinement.CONNECT_TCP)
        rules.enforce()


def _paths(settings: Settings, store: Store, reach: Reach, role: str) -> dict[Path, int]:
    modules = [path for path in sys.path if path]
    interpreter = [*modules, sys.prefix, sys.base_prefix, str(Path(retinue.__file__).parent)]
    network = _NETWORK if reach.ports else ()
    readable = [*interpreter, *_LIBRARIES, *_SYSTEM, *network, *_certificates(settings), *reach.read]
    paths = {Path(path): _READ for path in readable}
    if role == "coordinator":
        paths[store.paths.management_token(settings.management_token_file)] = _READ
        paths[store.paths.audit_folder(settings.audit_folder)] = _KEEP
    return paths | dict.fromkeys([Path("/dev/null"), *reach.changed], _CHANGE)


def _certificates(settings: Settings) -> list[Path]:
    """Return the folders of the TLS files, where renewed ones appear."""
    named = [Path(path) for path in (settings.tls_cert, settings.tls_key) if path]
    return [folder for path in named for folder in (path.parent, path.resolve().parent)]
