"""`retinue run` keeps requests from TikTok's own service, by whatever the kernel allows, or refuses to run."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import running
from retinue.intercept.authority import make_authority
from retinue.intercept.confinement import confinement_plans, unprivileged
from retinue.intercept.environment import RelayRoute
from retinue.local import LocalServer
from support.intercepted import DENIED, WITHOUT_CONFINEMENT, WITHOUT_LANDLOCK, installed, needs_landlock, run
from support.waiting import waiting_for

API = "https://open.tiktokapis.com/v2/"
WITHOUT_NAMESPACES = (*DENIED, "unshare")
RISK = "requests may reach TikTok with your real key"
PYTHON = """
import http.client, ssl
connection = http.client.HTTPSConnection("open.tiktokapis.com", context=ssl._create_unverified_context())
connection.request("GET", "/v2/")
print(connection.getresponse().read().decode())
"""
UNHOOKED = {
    "curl past the proxy": ["curl", "-sS", "--noproxy", "*", API],
    "an empty environment": ["env", "-i", "/usr/bin/curl", "-sS", API],
    "Python without hooks": ["env", "-i", sys.executable, "-ISc", PYTHON],
}


def has_namespaces() -> bool:
    """Return whether this system allows namespaces to the user who runs the tests."""
    return not subprocess.run(["unshare", "-Urn", "true"], capture_output=True, check=False).returncode


needs_namespaces = pytest.mark.skipif(not has_namespaces(), reason="the kernel allows no namespaces")


@pytest.fixture
def curl() -> str:
    """The program curl."""
    return installed("curl")


@pytest.fixture
def real() -> Iterator[socket.socket]:
    """A socket in place of TikTok's own service, on a port that no server gets by asking for any."""
    for port in range(20_000, 21_000):
        try:
            listener = socket.create_server(("127.0.0.1", port))
        except OSError:
            continue
        with closing(listener):
            listener.settimeout(0)
            yield listener
        return
    pytest.fail("no free port")


def was_reached(listener: socket.socket) -> bool:
    """Return whether a client has connected."""
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def asking(real: socket.socket) -> list[str]:
    """A command that looks at no proxy, for which TikTok's name leads to the socket in its place."""
    port = real.getsockname()[1]
    return ["curl", "-sS", "--noproxy", "*", "--connect-to", f"::127.0.0.1:{port}", API]


# --- what keeps requests away -----------------------------------------------------------------------------------------


def test_best_effort_runs_without_confinement(retinue_server: LocalServer, curl: str, real: socket.socket) -> None:
    """With neither namespace nor Landlock the real service is reached; that is said at the start and at the end."""
    done = run(
        "--best-effort", "--server", retinue_server.url, "--", *asking(real), "-m", "1", within=WITHOUT_CONFINEMENT
    )

    assert was_reached(real)
    assert f"best effort: {RISK} (" in done.stderr
    assert done.stderr.endswith(
        "no request reached the server: any that the command sent went to TikTok itself, with your real key\n"
    )


@pytest.mark.parametrize(
    ("within", "said"),
    [
        pytest.param((), "the command has a network of its own", marks=needs_namespaces),
        pytest.param(WITHOUT_LANDLOCK, "the command has a network of its own", marks=needs_namespaces),
        pytest.param(WITHOUT_NAMESPACES, "is blocked by Landlock, except ports", marks=needs_landlock),
    ],
)
def test_confinement_blocks_requests_to_other_hosts(
    retinue_server: LocalServer, curl: str, real: socket.socket, within: tuple[str, ...], said: str
) -> None:
    """A program that looks at no proxy does not reach the real service, nor does its child; silence is told."""
    child = ["env", "-i", f"/usr/bin/{asking(real)[0]}", *asking(real)[1:]]
    for command in (asking(real), child):
        done = run("--server", retinue_server.url, "--", *command, within=within)

        assert 7 == done.returncode, done.stderr  # curl's for a connection that it did not get
        assert not was_reached(real)
        assert said in done.stderr
        assert done.stderr.endswith(
            "no request reached the server: the command sent none, or in a way that is blocked here\n"
        )


@pytest.mark.parametrize(
    ("network", "within"),
    [([], WITHOUT_CONFINEMENT), (["--allow-network"], WITHOUT_CONFINEMENT), (["--allow-network"], WITHOUT_NAMESPACES)],
)
def test_commands_that_could_reach_tiktok_are_not_run(
    retinue_server: LocalServer, tmp_path: Path, network: list[str], within: tuple[str, ...]
) -> None:
    """Exit code 2, reasons and remedy. Landlock knows no names, so it is no help where other hosts are allowed."""
    command = ("--server", retinue_server.url, "--", "touch", tmp_path / "ran")
    refused = run(*network, *command, within=within)

    assert (2, False) == (refused.returncode, (tmp_path / "ran").exists())
    assert f"{RISK} (this system cannot prevent it: no namespace of its own: EPERM" in refused.stderr
    assert "--best-effort runs the command anyway" in refused.stderr

    done = run("--best-effort", *network, *command, within=within)
    assert (0, True) == (done.returncode, (tmp_path / "ran").exists())
    assert f"best effort: {RISK} (" in done.stderr


@needs_namespaces
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has port 443 where other hosts are allowed")
@pytest.mark.parametrize("network", [[], ["--allow-network"]], ids=["blocked", "allowed"])
@pytest.mark.parametrize("client", UNHOOKED)
def test_host_names_resolve_to_the_server(
    retinue_server: LocalServer, curl: str, client: str, network: list[str]
) -> None:
    """For programs that look at no variable and have no hook, also if other hosts may be reached."""
    done = run(*network, "--server", retinue_server.url, "--", *UNHOOKED[client])

    assert "unsupported_path" in done.stdout, done.stderr
    assert "1 requests, 1 refusals" in done.stderr


@needs_namespaces
@pytest.mark.parametrize("network", [[], ["--allow-network"]], ids=["blocked", "allowed"])
def test_every_dns_lookup_is_answered_locally(retinue_server: LocalServer, tmp_path: Path, network: list[str]) -> None:
    """Of IPv4 and of IPv6, also where the system would ask a daemon or the network before its file."""
    (tmp_path / "nsswitch.conf").write_text("passwd: files\nhosts: resolve [!UNAVAIL=return] dns files\n")
    mounts = f"""
mount --bind {tmp_path}/nsswitch.conf /etc/nsswitch.conf
mount -t tmpfs none /run && mkdir /run/nscd
{sys.executable} -c 'import socket; socket.socket(socket.AF_UNIX).bind("/run/nscd/socket")'
exec "$@"
"""
    within = ("unshare", "-Urm", "sh", "-euc", mounts, "sh")
    script = """
import json, os, socket
names = ["open.tiktokapis.com", "open-platform.tiktokapis.com", "platform.tiktokapis.com"]
families = [socket.AF_INET, socket.AF_INET6, socket.AF_UNSPEC]
found = [each[4][0] for name in names for family in families for each in socket.getaddrinfo(name, 443, family)]
print(json.dumps([found, open("/etc/nsswitch.conf").read(), os.path.isfile("/run/nscd/socket")]))
"""
    command = ("env", "-i", sys.executable, "-ISc", script)
    done = run(*network, "--server", retinue_server.url, "--", *command, within=within)

    addresses, services, is_cache_hidden = json.loads(done.stdout)
    assert {"127.84."} == {address.removeprefix("::ffff:")[:7] for address in addresses}, addresses
    assert "passwd: files\nhosts: files resolve [!UNAVAIL=return] dns files\n" == services
    assert is_cache_hidden


@needs_namespaces
def test_programs_without_hooks_need_port_443(retinue_server: LocalServer, curl: str) -> None:
    """A program that ignores proxies gets no connection, if other hosts may be reached; a line says so."""
    within = ("setpriv", "--bounding-set=-net_bind_service") if os.geteuid() == 0 else ()
    may_listen = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 443
    for client, arguments in UNHOOKED.items():
        done = run("--allow-network", "--server", retinue_server.url, "--", *arguments, within=within)
        assert may_listen == ("unsupported_path" in done.stdout), client
        assert may_listen != ("port 443 is not available" in done.stderr), client
    by_proxy = run("--allow-network", "--server", retinue_server.url, "--", curl, "-sS", API, within=within)
    assert "unsupported_path" in by_proxy.stdout


@needs_namespaces
def test_other_hosts_are_reached_if_allowed(retinue_server: LocalServer, curl: str, real: socket.socket) -> None:
    """Without the proxy too; plain http under TikTok's names goes nowhere."""
    port = real.getsockname()[1]
    plain = "http://open.tiktokapis.com/v2/oauth/token/"
    script = f"curl -sS -m 1 --noproxy '*' http://127.0.0.1:{port}/; curl -sS {plain} && echo sent"
    done = run("--allow-network", "--server", retinue_server.url, "--", "sh", "-c", script)

    assert was_reached(real)
    assert ("", 7) == (done.stdout, done.returncode)


def test_tunnels_to_other_ports_of_tiktok_are_refused(retinue_server: LocalServer, curl: str) -> None:
    """Also if other hosts may be reached: they would lead to TikTok itself."""
    command = (curl, "-sS", "-p", "http://open.tiktokapis.com:8080/", "-x")
    script = f'{" ".join(command)} "$https_proxy"'
    done = run("--best-effort", "--allow-network", "--server", retinue_server.url, "--", "sh", "-c", script)

    assert 56 == done.returncode
    assert "response 403" in done.stderr
    assert "blocked: open.tiktokapis.com (1)" in done.stderr


@given(st.integers(1, 65_535), st.integers(1, 65_535))
def test_ports_of_services_stay_closed(first: int, last: int) -> None:
    """The ephemeral port range opens no port below 1024, however the system sets it."""
    low, high = unprivileged(first, last)

    assert {*range(low, high + 1)} == {port for port in range(first, last + 1) if port >= 1024}


def test_the_announcement_names_the_limits_of_landlock(tmp_path: Path) -> None:
    """The range of ports, and what it does not look at."""
    authority = make_authority(tmp_path, trust_others=False)
    (_, landlock) = confinement_plans(RelayRoute(40_001, 40_002, authority, tmp_path, allow_network=False))
    first, last = landlock.ports[-1]

    assert f"except ports {first} to {last}; UDP, Multipath TCP and TCP Fast Open are not" in landlock.announcement


# --- what goes on beside ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("within", [(), WITHOUT_NAMESPACES, WITHOUT_CONFINEMENT], ids=["as it is", "Landlock", "none"])
@pytest.mark.parametrize("hooked", [True, False], ids=["hooked", "unhooked"])
def test_a_command_reaches_its_own_servers(retinue_server: LocalServer, within: tuple[str, ...], hooked: bool) -> None:
    """On a port that the system chose."""
    script = """
import http.server, threading, urllib.request
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/").status)
"""
    python = [sys.executable, "-c"] if hooked else ["env", "-i", sys.executable, "-ISc"]
    done = run("--best-effort", "--server", retinue_server.url, "--", *python, script, within=within)

    assert "200\n" == done.stdout, done.stderr


def test_nested_runs_are_refused(retinue_server: LocalServer) -> None:
    """It would be led to the outer one, or not be able to reach its own server."""
    inner = running.command_of("run", "--server", retinue_server.url, "--", "echo", "ran")
    done = run("--server", retinue_server.url, "--", *inner)

    assert (2, "") == (done.returncode, done.stdout)
    assert "retinue: already inside a `retinue run`: remove the inner one\n" in done.stderr


@pytest.mark.parametrize("within", [(), WITHOUT_NAMESPACES, WITHOUT_CONFINEMENT], ids=["as it is", "Landlock", "none"])
def test_a_command_ends_when_its_runner_is_killed(retinue_server: LocalServer, within: tuple[str, ...]) -> None:
    """The kernel kills it, however it is confined."""
    script = "echo $$; exec sleep 600"
    command = running.command_of("run", "--best-effort", "--server", retinue_server.url, "--", "sh", "-c", script)
    with subprocess.Popen([*within, *command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        process.kill()
    try:
        waiting_for(lambda: has_ended(pid))
    finally:
        if not has_ended(pid):
            os.kill(pid, 9)


def has_ended(pid: int) -> bool:
    """Return whether a process has ended or waits for its parent to notice."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
