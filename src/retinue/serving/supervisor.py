"""The supervisor: it binds the ports, starts workers and coordinator, restarts them if they die, and stops them.

It opens the store only to report errors early. Children get their configuration over stdin. The end of that pipe asks
them to stop, also if the supervisor is killed, so none of them outlives it.
"""

import asyncio
import logging
import os
import resource
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from msgspec import json, structs

from retinue.access.management_token import management_token
from retinue.audit.channel import open_channel
from retinue.audit.log import lock_folder
from retinue.audit.log_files import files_of
from retinue.audit.record_counters import MAX_WORKERS, RecordCounters, open_counters
from retinue.audit.recount import Recount
from retinue.audit.trusted_time import TimeFiles
from retinue.clock import SystemClock
from retinue.errors import InputError, UncleanStop
from retinue.faults import Faults, parse_faults
from retinue.key_pair import KeyPair, read_key_pair
from retinue.locks import open_locked
from retinue.serving import logs
from retinue.serving.child_config import LOST_RECORDS, ChildConfig, new_sandbox
from retinue.serving.confinement import announce_confinement, harden
from retinue.settings import LOG_FORMATS, LOG_LEVELS, Settings
from retinue.store.open import Store, open_store
from retinue.web.listener import STOP_SECONDS, bind
from retinue.web.management_front import host_names, is_loopback
from retinue.web.trusted_proxies import trusted_networks

MAX_CONNECTIONS = 1_000_000
MAX_BLOCK_CACHE_MIB = 1024 * 1024
MAX_AUDIT_MIB = 1024 * 1024
MAX_AUDIT_HOURS = 24 * 366
MAX_AUDIT_DAYS = 100 * 366

_LOGGER = logging.getLogger("retinue.serving")
_PATIENCE_SECONDS = STOP_SECONDS + 1.5  # after this time a worker is killed; an idle server stops in less than 5 s
_COORDINATOR_PATIENCE_SECONDS = 30.0  # it may have to start first, then writes the last records
_LONGEST_PAUSE_SECONDS = 5.0
_MANAGEMENT_HOST = "127.0.0.1"
_OTHER_OPEN_FILES = 1024  # in a worker: its files, and connections that are being refused


def serve(settings: Settings, announce: Callable[[str, str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    `announce` gets both addresses once connections are accepted. Raises `InputError` or `StoreError` before a process
    is started, and `UncleanStop` at the end.
    """
    harden(settings)
    store = open_store(settings.store, settings.cache_dir)
    _require_usable(settings, store)
    key_pair = _key_pair_of(settings)
    lock = _lock_store(store)
    logs.set_up(settings, "supervisor")
    announce_confinement(settings)
    public = _bind(settings.host, settings.port, "port")
    management = _bind(_MANAGEMENT_HOST, settings.management_port, "management-port")
    scheme = "https" if key_pair else "http"
    if key_pair is None and not is_loopback(settings.host):
        _LOGGER.warning(
            "secrets and tokens are not encrypted on %s: give --tls-cert and --tls-key, or use a proxy with TLS",
            settings.host,
        )
    _recount_quotas(settings, store)
    addresses = (f"{scheme}://{_address(public)}", f"http://{_address(management)}")
    try:
        with store.held_open():
            asyncio.run(_supervise(settings, store, key_pair, (public, management), lambda: announce(*addresses)))
    finally:
        os.close(lock)


async def _supervise(
    settings: Settings,
    store: Store,
    key_pair: KeyPair | None,
    listeners: tuple[socket.socket, socket.socket],
    announce: Callable[[], None],
) -> None:
    """Run all children. The coordinator stops last, since it takes the workers' last records."""
    stopping, without_workers = asyncio.Event(), asyncio.Event()
    counters = _open_counters(settings, store)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    to_coordinator, from_workers = open_channel()
    sandbox = new_sandbox(_faults_of(settings)) if settings.sandbox else None
    config = ChildConfig(settings, listeners[1].fileno(), from_workers.fileno(), counters, sandbox)
    coordinator = asyncio.create_task(_Child("coordinator", config, without_workers).run())
    config = ChildConfig(settings, listeners[0].fileno(), to_coordinator.fileno(), counters, sandbox, key_pair)
    workers = [_Child("worker", structs.replace(config, worker=number), stopping) for number in range(settings.workers)]
    if key_pair is not None:
        loop.add_signal_handler(signal.SIGHUP, _reload_key_pair, settings, workers)
    announce()  # from now on signals are handled
    codes = await asyncio.gather(*(worker.run() for worker in workers))
    to_coordinator.close()  # tells the coordinator that no more records will arrive
    without_workers.set()
    codes.append(await coordinator)
    from_workers.close()
    os.close(counters)
    _require_clean(codes)


def _require_clean(codes: list[int]) -> None:
    if LOST_RECORDS in codes:
        raise UncleanStop("stopped, but audit records are lost; `retinue audit verify` counts them")
    if any(codes):
        raise UncleanStop("stopped with errors, see the log; `retinue audit verify` reports losses")


class _Child:
    """One child process and its successors."""

    def __init__(self, role: str, config: ChildConfig, stopping: asyncio.Event) -> None:
        self._role = role
        self._is_last = role == "coordinator"  # it is needed to the end, to take the last records
        self._config = config
        self._stopping = stopping
        self._process: asyncio.subprocess.Process | None = None

    def use(self, key_pair: KeyPair) -> None:
        """Make this process and its successors use another certificate."""
        self._config = structs.replace(self._config, key_pair=key_pair)
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.write(json.encode(key_pair) + b"\n")

    async def run(self) -> int:
        """Run processes of this role until the server stops. Return the last exit code."""
        clock = SystemClock()
        pause = 0.1
        while True:
            started = clock.elapsed()
            code = await self._run_once()
            if self._stopping.is_set():
                return code
            lifetime = clock.elapsed() - started
            pause = 0.1 if lifetime > _LONGEST_PAUSE_SECONDS else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            _LOGGER.error("%s ended after %.1f s; restarting", self._role, lifetime)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            if self._stopping.is_set() and not self._is_last:
                return code

    async def _run_once(self) -> int:
        process = await self._start()
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ended.done():
            # This asks it to stop. A signal would end a child that is still starting, and lose its records.
            assert process.stdin is not None
            process.stdin.close()
            done, _ = await asyncio.wait(
                {ended}, timeout=_COORDINATOR_PATIENCE_SECONDS if self._is_last else _PATIENCE_SECONDS
            )
            if not done:
                process.kill()
        return await ended

    async def _start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a file in the working folder, such as json.py, must not replace a module
            "-m",
            f"retinue.serving.{self._role}",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=self._config.descriptors,
            process_group=0,  # Ctrl-C reaches only the supervisor, which stops its children in order
        )
        assert process.stdin is not None
        process.stdin.write(json.encode(self._config) + b"\n")
        self._process = process
        return process


def _open_counters(settings: Settings, store: Store) -> int:
    """Open the counters of audit records while no other process uses them."""
    folder = store.paths.audit_folder(settings.audit_folder)
    descriptor = open_counters(folder)
    is_resumed = RecordCounters(descriptor).begin_run(SystemClock().now())
    if not is_resumed and files_of(folder):
        _LOGGER.warning("the counters of audit records were missing or damaged; lost records cannot be counted")
    return descriptor


def _faults_of(settings: Settings) -> Faults:
    if not settings.sandbox and (settings.faults or settings.fault_seed):
        raise InputError("--faults, --fault-seed: only with --sandbox; other clients rely on correct responses")
    return parse_faults(settings.faults, seed=settings.fault_seed)


def _require_usable(settings: Settings, store: Store) -> None:
    for flag, count, most in (
        ("workers", settings.workers, MAX_WORKERS),
        ("block-cache-mib", settings.block_cache_mib, MAX_BLOCK_CACHE_MIB),
        ("max-connections", settings.max_connections, MAX_CONNECTIONS),
        ("audit-file-mib", settings.audit_file_mib, MAX_AUDIT_MIB),
        ("audit-max-mib", settings.audit_max_mib, MAX_AUDIT_MIB),
        ("audit-file-hours", settings.audit_file_hours, MAX_AUDIT_HOURS),
        ("audit-keep-days", settings.audit_keep_days, MAX_AUDIT_DAYS),
    ):
        least = 0 if flag in {"audit-keep-days", "audit-max-mib", "block-cache-mib"} else 1
        if not least <= count <= most:
            raise InputError(f"--{flag} {count}: expected {least} to {most}")
    if settings.port and settings.port == settings.management_port:
        raise InputError(f"--port and --management-port are both {settings.port}: give each its own")
    for name, word, known in (
        ("log-level", settings.log_level, LOG_LEVELS),
        ("log-format", settings.log_format, LOG_FORMATS),
    ):
        if word not in known:
            raise InputError(f"--{name} {word}: expected one of {', '.join(known)}")
    trusted_networks(settings.trusted_proxies)
    host_names(settings.management_hosts)
    _faults_of(settings)
    _allow_open_files(settings.max_connections)
    store.graph(SystemClock()).close()
    store.access().close()
    os.close(lock_folder(store.paths.audit_folder(settings.audit_folder)))
    management_token(store.paths.management_token(settings.management_token_file), secrets.token_bytes)


def _key_pair_of(settings: Settings) -> KeyPair | None:
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise InputError("--tls-cert and --tls-key: give both or neither")
    if not settings.tls_cert:
        return None
    try:
        return read_key_pair(Path(settings.tls_cert), Path(settings.tls_key))
    except InputError as error:
        raise InputError(f"--tls-cert and --tls-key: {error}") from error


def _reload_key_pair(settings: Settings, workers: list[_Child]) -> None:
    """Send workers the certificate and key, unless they are invalid."""
    try:
        key_pair = _key_pair_of(settings)
    except InputError as error:
        _LOGGER.error("the certificate was not reloaded, the previous one stays in use: %s", error)  # noqa: TRY400 - no fault of ours
        return
    assert key_pair is not None
    for worker in workers:
        worker.use(key_pair)
    _LOGGER.info("new connections get the certificate in %s", settings.tls_cert)


def _recount_quotas(settings: Settings, store: Store) -> None:
    """Restore missing or damaged quota counters before any process counts."""
    with (
        closing(store.quotas(alone=True)) as counters,  # no other server may count there
        closing(store.access()) as access,
    ):
        folder = store.paths.audit_folder(settings.audit_folder)
        secret = asyncio.run(access.audit_checkpoint()).secret
        # A clock that was set back must not make an earlier day begin again.
        second = max(SystemClock().now(), TimeFiles(folder, secret).trusted.read() or 0)
        for sentence in asyncio.run(Recount(counters, folder).at_start(access, second)):
            _LOGGER.warning("%s", sentence)


def _lock_store(store: Store) -> int:
    try:
        return open_locked(store.paths.lock, "another server serves this store")
    except OSError as error:
        raise InputError(f"{store}: cannot be opened: {error.strerror}") from error


def _allow_open_files(connections: int) -> None:
    """Raise the limit of open files, so that workers refuse connections themselves."""
    wanted = connections + _OTHER_OPEN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise InputError(f"--max-connections {connections}: this system allows {hard} open files (ulimit -n)")
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _bind(host: str, port: int, flag: str) -> socket.socket:
    try:
        return bind(host, port)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a port"
        raise InputError(f"--{flag} {port}: cannot listen on {host}:{port}: {reason}; choose another") from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
