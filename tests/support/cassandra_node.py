"""Nodes of Apache Cassandra for tests: node 1 listens on 127.0.0.1, node 2 on 127.0.0.2, and so on.

Each has a folder of its own, which goes with it. Small heaps, no waiting for neighbours, and a low limit for
tombstones: what would only be slow on a large cluster fails here.
"""

import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock
from pathlib import Path

from support.cassandra_jars import jars

START_SECONDS = 180
STOP_SECONDS = 20
TOMBSTONE_LIMIT = 1_400
_RANGE = 2**64

# Packages of Java 17 that Cassandra 5 needs opened.
_OPENED = """
    java.base/java.io java.base/java.lang java.base/java.lang.ref java.base/java.lang.reflect java.base/java.net
    java.base/java.nio java.base/java.util java.base/java.util.concurrent java.base/java.util.concurrent.atomic
    java.base/jdk.internal.loader java.base/jdk.internal.math java.base/jdk.internal.misc
    java.base/jdk.internal.module java.base/jdk.internal.ref java.base/jdk.internal.reflect java.base/jdk.internal.vm
    java.base/sun.nio.ch java.management.rmi/com.sun.jmx.remote.internal.rmi
    java.management/com.sun.jmx.remote.security java.management/sun.management java.rmi/sun.rmi.registry
    java.rmi/sun.rmi.server java.rmi/sun.rmi.transport java.rmi/sun.rmi.transport.tcp java.sql/java.sql
    jdk.management/com.sun.management.internal
"""

_CONFIGURATION = """
cluster_name: retinue-tests
num_tokens: 1
initial_token: "{token}"
auto_bootstrap: false
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
data_file_directories: [{folder}/data]
commitlog_directory: {folder}/commitlog
cdc_raw_directory: {folder}/cdc
hints_directory: {folder}/hints
saved_caches_directory: {folder}/caches
commitlog_sync: {sync}
listen_address: {address}
rpc_address: {address}
storage_port: {storage_port}
native_transport_port: {port}
endpoint_snitch: SimpleSnitch
auto_snapshot: false
read_request_timeout: 2000ms
write_request_timeout: 2000ms
tombstone_warn_threshold: {warn}
tombstone_failure_threshold: {limit}
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: "127.0.0.1:{storage_port}"}}]
"""
_LOGGING = """
<configuration>
  <appender name="FILE" class="ch.qos.logback.core.FileAppender">
    <file>{folder}/node.log</file>
    <encoder><pattern>%-5level %d{{HH:mm:ss}} %logger{{0}} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="FILE"/></root>
</configuration>
"""


# With `periodic` a killed node loses the last tenth of a second that it has acknowledged: its log is read up to a mark.
SYNC_AT_ONCE = "batch"
SYNC_AS_USUAL = "periodic\ncommitlog_sync_period: 10000ms"


@dataclass(frozen=True)
class Setting:
    """Settings of nodes. `core` is the only one that they may use; `more` has additional configuration."""

    heap_mib: int = 640
    sync: str = SYNC_AT_ONCE
    core: int | None = None
    more: str = ""


@dataclass
class Node:
    """One node. `number` begins at 1, of `count`; it keeps its data in a folder."""

    number: int
    count: int
    folder: Path
    port: int
    setting: Setting
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Return the node's address."""
        return f"127.0.0.{self.number}"

    @property
    def _tool_port(self) -> int:
        """For `nodetool`, which knows all nodes by one address."""
        return self.port + 1 + self.number

    def begin(self) -> None:
        """Start the node; `wait` returns when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        values = {
            "folder": self.folder,
            "address": self.address,
            "port": self.port,
            "storage_port": self.port + 1,
            "token": -(_RANGE // 2) + _RANGE // self.count * (self.number - 1),
            "warn": TOMBSTONE_LIMIT // 2,
            "limit": TOMBSTONE_LIMIT,
            "sync": self.setting.sync,
        }
        (self.folder / "cassandra.yaml").write_text(_CONFIGURATION.format(**values) + self.setting.more)
        (self.folder / "logback.xml").write_text(_LOGGING.format(**values))
        with (self.folder / "out.log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), stdout=log, stderr=log, cwd=self.folder)

    def wait(self) -> None:
        """Wait until the node answers."""
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"node {self.number} does not start: {self._last_words()}")
            time.sleep(0.2)

    def tool(self, *words: str) -> str:
        """Run `nodetool`; return its output."""
        classes = ["-cp", f"{jars()}/*", "org.apache.cassandra.tools.NodeTool"]
        command = ["java", *_opened(), *classes, "-h", "127.0.0.1", "-p", str(self._tool_port), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def signal(self, number: int) -> None:
        """Send the node a signal, such as SIGSTOP."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the node."""
        self.signal(signal.SIGKILL)
        self._wait_for_end()

    def stop(self) -> None:
        """Stop the node as an operator would."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGTERM)
            self._wait_for_end()

    def _wait_for_end(self) -> None:
        assert self.process is not None
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _command(self) -> list[str]:
        lib = jars()
        agent = next(lib.glob("jamm-*.jar"))
        options = {
            "cassandra.config": (self.folder / "cassandra.yaml").as_uri(),
            "logback.configurationFile": self.folder / "logback.xml",
            "cassandra.storagedir": self.folder,
            "cassandra.skip_wait_for_gossip_to_settle": 0,
            "cassandra.ring_delay_ms": 1000,
            "cassandra.superuser_setup_delay_ms": 0,
            "cassandra.jmx.local.port": self._tool_port,
            "io.netty.tryReflectionSetAccessible": "true",
        }
        size = self.setting.heap_mib
        heap = [f"-Xms{size}m", f"-Xmx{size}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=4"]
        defined = [f"-D{name}={value}" for name, value in options.items()]
        classes = ["-cp", f"{self.folder}:{lib}/*", "org.apache.cassandra.service.CassandraDaemon"]
        tied = ["setpriv", "--pdeathsig", "KILL"]  # it ends with the tests, even after a kill
        if self.setting.core is not None:
            tied = ["taskset", "-c", str(self.setting.core), *tied]
        return [*tied, "java", *heap, *_opened(), f"-javaagent:{agent}", *defined, *classes]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.address, self.port)) == 0

    def _last_words(self) -> str:
        logs = [self.folder / name for name in ("node.log", "out.log")]
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs if log.exists())


def _opened() -> list[str]:
    return [f"--add-{what}={name}=ALL-UNNAMED" for name in _OPENED.split() for what in ("opens", "exports")]


@contextmanager
def running(count: int, port: int, setting: Setting = Setting()) -> Iterator[list[Node]]:
    """Run nodes until the block ends, then remove them and their data."""
    with tempfile.TemporaryDirectory(prefix="retinue-cassandra-", ignore_cleanup_errors=True) as folder:
        nodes = [Node(number, count, Path(folder) / str(number), port, setting) for number in range(1, count + 1)]
        try:
            for node in nodes:
                node.begin()
                if node.number == 1:
                    node.wait()  # the others ask it who is there
            for node in nodes:
                node.wait()
            yield nodes
        finally:
            for node in nodes:
                if node.process is not None and node.process.poll() is None:
                    node.kill()


@contextmanager
def shared(folder: Path) -> Iterator[int]:
    """Yield the port of the one node of a folder; its first user ends it after the others."""
    with (folder / "users").open("a") as users, (folder / "port").open("a+") as file, ExitStack() as started:
        flock(users, LOCK_SH)
        flock(file, LOCK_EX)
        file.seek(0)
        port = int(file.read() or 0)
        if not port:
            port = free_port()
            started.enter_context(running(1, port))
            file.write(str(port))
            file.flush()
            started.callback(file.truncate, 0)  # a process that comes later starts a node of its own
            started.callback(flock, users, LOCK_EX)
        flock(file, LOCK_UN)
        yield port


def free_port() -> int:
    """Return the first of five free ports, below those that the system gives out itself."""
    while True:
        port = 20_000 + 5 * secrets.randbelow(2_400)
        with ExitStack() as opened:
            try:
                for each in range(port, port + 5):
                    opened.enter_context(socket.socket()).bind(("127.0.0.1", each))
            except OSError:
                continue
            return port
