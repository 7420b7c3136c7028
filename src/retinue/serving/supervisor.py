"""The parent of a running server: binds the ports, starts workers and keeper, restarts what dies, stops them all.

It answers nothing itself and opens the store only to say early and clearly if that cannot work. Its children get
their settings over stdin; the end of that pipe is the word to stop, and comes too when it is gone itself, so none of
them outlives it.
"""

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from msgspec import json, structs

from retinue import assemble
from retinue.audit.channel import open_channel
from retinue.audit.log import lock_folder
from retinue.audit.log_files import files_of
from retinue.audit.record_counters import MAX_WORKERS, RecordCounters, open_counters
from retinue.audit.recount import Recount
from retinue.audit.trusted_time import TimeFiles, time_reached
from retinue.clock import SystemClock
from retinue.errors import InputError, UncleanStop
from retinue.faults import Faults, parsed
from retinue.key_pair import KeyPair, read_key_pair
from retinue.locks import open_locked
from retinue.serving import logs
from retinue.serving.confinement import announce_confinement, harden
from retinue.serving.station import LOST_RECORDS, Sandbox, Station, new_sandbox
from retinue.serving.token import token_of
from retinue.settings import LOG_FORMATS, LOG_LEVELS, Settings
from retinue.web.hosts import host_names, is_loopback
from retinue.web.listener import STOP_SECONDS, bind
from retinue.web.trusted_proxies import trusted_networks

MOST_CONNECTIONS = 1_000_000
MOST_IMAGE_MIB = 1024 * 1024
MOST_AUDIT_MIB = 1024 * 1024
MOST_AUDIT_HOURS = 24 * 366
MOST_AUDIT_DAYS = 100 * 366

_LOGGER = logging.getLogger("retinue.serving")
_PATIENCE_SECONDS = STOP_SECONDS + 1.5  # after that a worker is killed; with an idle keeper that is below 5 s
_KEEPER_PATIENCE_SECONDS = 30.0  # it may have to start first, and then has the last records to write
_LONGEST_PAUSE_SECONDS = 5.0
_MANAGEMENT_HOST = "127.0.0.1"
_OTHER_OPEN_FILES = 1024  # in a worker: its files, and connections that are being refused


def serve(settings: Settings, announce: Callable[[str, str], None]) -> None:
    """Serve until SIGTERM or SIGINT. `announce` gets both addresses once connections are accepted.

    Raises `InputError` or `StoreError` before anything is started, and `UncleanStop` at the end.
    """
    harden(settings)
    _require_usable(settings)
    key_pair = _key_pair_of(settings)
    store = _only_server_of(assemble.lock_path(settings.store), settings.store)
    logs.set_up(settings, "supervisor")
    announce_confinement(settings)
    public = _bind(settings.host, settings.port, "port")
    management = _bind(_MANAGEMENT_HOST, settings.management_port, "management-port")
    scheme = "https" if key_pair else "http"
    if key_pair is None and not is_loopback(settings.host):
        _LOGGER.warning(
            "secrets and tokens travel in the clear on %s: give --tls-cert and --tls-key, or have a proxy do TLS",
            settings.host,
        )
    _recount_quotas(settings)
    addresses = (f"{scheme}://{_address(public)}", f"http://{_address(management)}")
    try:
        with assemble.kept_open(settings.store):
            asyncio.run(_supervise(settings, key_pair, public, management, lambda: announce(*addresses)))
    finally:
        os.close(store)


async def _supervise(
    settings: Settings,
    key_pair: KeyPair | None,
    public: socket.socket,
    management: socket.socket,
    announce: Callable[[], None],
) -> None:
    """Run all children. The keeper stops when the workers have, since it takes their last records."""
    stopping, without_workers = asyncio.Event(), asyncio.Event()
    counters = _begun_counters(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    to_keeper, from_workers = open_channel()
    sandbox = _sandbox_of(settings)
    house = Station(settings, management.fileno(), from_workers.fileno(), counters, sandbox)
    keeping = asyncio.create_task(_Child("keeper", house, without_workers).run())
    station = Station(settings, public.fileno(), to_keeper.fileno(), counters, sandbox, key_pair)
    workers = [
        _Child("worker", structs.replace(station, worker=number), stopping) for number in range(settings.workers)
    ]
    if key_pair is not None:
        loop.add_signal_handler(signal.SIGHUP, _reload_key_pair, settings, workers)
    announce()  # from now on every signal is answered in order
    codes = await asyncio.gather(*(worker.run() for worker in workers))
    to_keeper.close()  # by which the keeper knows that nothing more will come
    without_workers.set()
    codes.append(await keeping)
    from_workers.close()
    os.close(counters)
    _require_clean(codes)


def _require_clean(codes: list[int]) -> None:
    """Raise `UncleanStop` if a child did not end with exit code 0."""
    if LOST_RECORDS in codes:
        raise UncleanStop("stopped, but audit records are lost; `retinue audit verify` says how many")
    if any(codes):
        raise UncleanStop("stopped, but not in order, see the log; `retinue audit verify` says what that has lost")


class _Child:
    """One child process and its successors."""

    def __init__(self, role: str, station: Station, stopping: asyncio.Event) -> None:
        self._role = role
        self._is_last = role == "keeper"  # there has to be one to the end, to take the last records
        self._station = station
        self._stopping = stopping
        self._process: asyncio.subprocess.Process | None = None

    def use(self, key_pair: KeyPair) -> None:
        """Let this process and its successors present another certificate."""
        self._station = structs.replace(self._station, key_pair=key_pair)
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.write(json.encode(key_pair) + b"\n")

    async def run(self) -> int:
        """Keep a process of this role running until the server stops; returns the exit code of the last one."""
        clock = SystemClock()
        pause = 0.1
        while True:
            started = clock.elapsed()
            code = await self._one_life()
            if self._stopping.is_set():
                return code
            lived = clock.elapsed() - started
            pause = 0.1 if lived > _LONGEST_PAUSE_SECONDS else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            _LOGGER.error("%s ended after %.1f s; restarting", self._role, lived)
            await self._stops_within(pause)
            if self._stopping.is_set() and not self._is_last:
                return code

    async def _one_life(self) -> int:
        process = await self._start()
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ended.done():
            # Its word to stop. A signal would end a child that has only begun to start, and what waits for it.
            assert process.stdin is not None
            process.stdin.close()
            done, _ = await asyncio.wait(
                {ended}, timeout=_KEEPER_PATIENCE_SECONDS if self._is_last else _PATIENCE_SECONDS
            )
            if not done:
                process.kill()
        return await ended

    async def _start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a file in the working folder, such as json.py, must not take the place of a module
            "-m",
            f"retinue.serving.{self._role}",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=self._station.descriptors,
            process_group=0,  # Ctrl-C reaches the supervisor alone, which then stops its children in order
        )
        assert process.stdin is not None
        process.stdin.write(json.encode(self._station) + b"\n")
        self._process = process
        return process

    async def _stops_within(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


def _begun_counters(settings: Settings) -> int:
    """The counters of audit records, as a file descriptor. No other process counts there at the moment."""
    folder = assemble.audit_folder(settings.store, settings.audit_folder)
    descriptor = open_counters(folder)
    goes_on = RecordCounters(descriptor).begin_run(SystemClock().now())
    if not goes_on and files_of(folder):
        _LOGGER.warning("the counters of audit records were missing or damaged; records that are lost cannot be told")
    return descriptor


def _sandbox_of(settings: Settings) -> Sandbox | None:
    return new_sandbox(_faults_of(settings)) if settings.sandbox else None


def _faults_of(settings: Settings) -> Faults:
    """The faults that hold at the start. Raises `InputError`."""
    if not settings.sandbox and (settings.faults or settings.fault_seed):
        raise InputError("--faults, --fault-seed: only with --sandbox; who is served otherwise counts on right answers")
    return parsed(settings.faults, seed=settings.fault_seed)


def _require_usable(settings: Settings) -> None:
    for flag, count, most in (
        ("workers", settings.workers, MAX_WORKERS),
        ("image-mib", settings.image_mib, MOST_IMAGE_MIB),
        ("max-connections", settings.max_connections, MOST_CONNECTIONS),
        ("audit-file-mib", settings.audit_file_mib, MOST_AUDIT_MIB),
        ("audit-max-mib", settings.audit_max_mib, MOST_AUDIT_MIB),
        ("audit-file-hours", settings.audit_file_hours, MOST_AUDIT_HOURS),
        ("audit-keep-days", settings.audit_keep_days, MOST_AUDIT_DAYS),
    ):
        least = 0 if flag in {"audit-keep-days", "audit-max-mib", "image-mib"} else 1
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
    assemble.open_graph(settings.store, SystemClock()).close()
    assemble.open_access(settings.store).close()
    os.close(lock_folder(assemble.audit_folder(settings.store, settings.audit_folder)))
    token_of(settings)


def _key_pair_of(settings: Settings) -> KeyPair | None:
    """Return the certificate and key of the public listener; None without TLS. Raises `InputError`."""
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise InputError("--tls-cert and --tls-key: give both or neither")
    if not settings.tls_cert:
        return None
    try:
        return read_key_pair(Path(settings.tls_cert), Path(settings.tls_key))
    except InputError as error:
        raise InputError(f"--tls-cert and --tls-key: {error}") from error


def _reload_key_pair(settings: Settings, workers: list[_Child]) -> None:
    """Give workers the pair that is in its files now. A broken one changes nothing."""
    try:
        key_pair = _key_pair_of(settings)
    except InputError as error:
        _LOGGER.error("the certificate was not reloaded, the previous one stays in use: %s", error)  # noqa: TRY400 - no fault of ours
        return
    assert key_pair is not None
    for worker in workers:
        worker.use(key_pair)
    _LOGGER.info("new connections get the certificate in %s", settings.tls_cert)


def _recount_quotas(settings: Settings) -> None:
    """Restore counters of quotas that are missing or damaged, while no process of this server counts."""
    with (
        closing(assemble.open_ledger(settings.store, alone=True)) as ledger,  # no other server may count there
        closing(assemble.open_access(settings.store)) as access,
    ):
        folder = assemble.audit_folder(settings.store, settings.audit_folder)
        secret = asyncio.run(access.audit_checkpoint()).secret
        # A clock that was put back must not make an earlier day of this one, which would begin once more.
        second = max(SystemClock().now(), time_reached(TimeFiles(folder, secret)) or 0)
        for sentence in asyncio.run(Recount(ledger, folder).at_start(access, second)):
            _LOGGER.warning("%s", sentence)


def _only_server_of(file: Path, store: str) -> int:
    """A lock on the store, which the kernel gives back when the supervisor ends. Raises `UnavailableLock`."""
    try:
        return open_locked(file, "another server serves this store")
    except OSError as error:
        raise InputError(f"{store}: cannot be opened: {error.strerror}") from error


def _allow_open_files(connections: int) -> None:
    """Raise the limit that the workers inherit, so that too many connections meet our own answer first."""
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
