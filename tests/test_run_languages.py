"""`retinue run` with clients in other languages, in other versions of them, and of other versions of HTTP."""

import ast
import sys
from pathlib import Path

import pytest

from retinue.local import LocalServer
from support.intercepted import ROOT, WITHOUT_CONFINEMENT, Done, installed, run

HOOKS = ROOT / "src" / "retinue" / "intercept" / "hooks"

JAVA = """
import java.net.*;
import java.net.http.*;

public class Ask {
    public static void main(String[] arguments) throws Exception {
        var address = URI.create("https://open.tiktokapis.com/v2/");
        var request = HttpRequest.newBuilder(address).build();
        var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode());
        System.out.println(((HttpURLConnection) address.toURL().openConnection()).getResponseCode());
        System.out.println(System.getProperty("mine"));
    }
}
"""

R = """
library(curl)
cat(curl_fetch_memory("https://open.tiktokapis.com/v2/")$status_code, mine)
"""

SPEAK = """
import socket, ssl, sys
context = ssl.create_default_context()
context.set_alpn_protocols(sys.argv[1].split())
host = "open.tiktokapis.com"
with context.wrap_socket(socket.create_connection((host, 443)), server_hostname=host) as connection:
    connection.sendall(bytes.fromhex(sys.argv[2]))
    print(connection.selected_alpn_protocol(), connection.makefile("rb").read().hex(), sep="\\n")
"""
EMPTY_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def ask(server: LocalServer, *command: str | Path, within: tuple[str, ...] = (), **variables: str) -> Done:
    """Run a command that asks a server, with the best confinement available."""
    return run("--best-effort", "--server", server.url, "--", *command, within=within, **variables)


@pytest.fixture(params=[(), WITHOUT_CONFINEMENT], ids=["as the system allows", "best effort"])
def within(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The wrapper of a run: none, or one that takes away all that the kernel has for confinement."""
    wrapper: tuple[str, ...] = request.param
    return wrapper


def test_java(retinue_server: LocalServer, tmp_path: Path, within: tuple[str, ...]) -> None:
    """Both of its HTTP clients are led to the server and trust it; the user's own options stay."""
    installed("javac", "openjdk-17-jdk-headless")
    (tmp_path / "Ask.java").write_text(JAVA)

    done = ask(retinue_server, "java", tmp_path / "Ask.java", within=within, JAVA_TOOL_OPTIONS="-Dmine=yes")

    assert "404\n404\nyes\n" == done.stdout, done.stderr
    assert "2 requests, 2 refusals" in done.stderr


@pytest.mark.parametrize("network", [[], ["--allow-network"]], ids=["blocked", "allowed"])
def test_javas_truststore(retinue_server: LocalServer, network: list[str]) -> None:
    """It has this run's authority, and those of this machine if other hosts may be reached."""
    installed("keytool", "openjdk-17-jdk-headless")
    script = 'dir=$(dirname "$SSL_CERT_FILE"); keytool -list -storepass changeit -keystore "$dir/truststore.p12"'
    script += '; grep -c BEGIN "$SSL_CERT_FILE"'

    done = run("--best-effort", *network, "--server", retinue_server.url, "--", "sh", "-c", script)

    bundled = int(done.stdout.splitlines()[-1])
    assert bundled == done.stdout.count("trustedCertEntry")
    assert (bundled > 1) == bool(network)


def test_r(retinue_server: LocalServer, tmp_path: Path, within: tuple[str, ...]) -> None:
    """The package curl, of whatever age, trusts the server; the user's own profile is run too."""
    rscript = installed("Rscript", "r-base-core", "r-cran-curl")
    (tmp_path / "own.R").write_text("mine <- 'yes'")
    (tmp_path / "ask.R").write_text(R)

    done = ask(retinue_server, rscript, tmp_path / "ask.R", within=within, R_PROFILE_USER=str(tmp_path / "own.R"))

    assert "404 yes" == done.stdout, done.stderr


def test_http2_only_clients_get_a_clear_error(retinue_server: LocalServer) -> None:
    """In a frame of theirs, and in the summary."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + EMPTY_SETTINGS
    done = ask(retinue_server, sys.executable, "-c", SPEAK, "h2", preface.hex())

    text = b"retinue run: only HTTP/1.1 is spoken here"
    goaway = (len(text) + 8).to_bytes(3) + bytes([7, 0, 0, 0, 0, 0]) + bytes(4) + (0xD).to_bytes(4) + text
    assert f"h2\n{(EMPTY_SETTINGS + goaway).hex()}\n" == done.stdout, done.stderr
    assert "1 spoke only HTTP/2 (let the client speak HTTP/1.1)\n" in done.stderr


def test_clients_with_http2_get_http1(retinue_server: LocalServer) -> None:
    """Whichever of the two they would rather speak."""
    request = b"GET /v2/ HTTP/1.1\r\nHost: open.tiktokapis.com\r\nConnection: close\r\n\r\n"
    done = ask(retinue_server, sys.executable, "-c", SPEAK, "h2 http/1.1", request.hex())

    assert done.stdout.startswith(f"http/1.1\n{b'HTTP/1.1 404'.hex()}"), done.stderr
    assert "HTTP/2" not in done.stderr


def test_the_hook_is_one_for_python_3_6() -> None:
    """Its syntax is that of 3.6, and it takes nothing from the future."""
    tree = ast.parse((HOOKS / "sitecustomize.py").read_text(), feature_version=(3, 6))

    assert "__future__" not in [each.module for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)]


@pytest.mark.parametrize(
    ("call", "ending"),
    [
        ("socket.create_connection(('open.tiktokapis.com', 443))", ""),
        ("socket.create_connection((socket.gethostbyname('open.tiktokapis.com'), 443))", ""),
        ("assert socket.socket().connect_ex(('open.tiktokapis.com', 443)) == 0", ""),
        ("socket.create_connection(('open.tiktokapis.com', 80))", "only https leads to the server"),
        ("socket.create_connection(('example.org', 443))", "example.org is blocked by retinue run; --allow-network"),
        ("socket.socket().connect(('192.0.2.1', 443))", "192.0.2.1 is blocked by retinue run; --allow-network"),
        ("socket.gethostbyname('example.org')", "example.org is blocked by retinue run; --allow-network"),
        ("socket.getaddrinfo(socket.gethostname(), 80)", ""),
    ],
)
@pytest.mark.parametrize("audit", ["pass", "del sys.addaudithook"], ids=["with audit hooks", "as before Python 3.8"])
def test_the_hook_redirects_and_blocks(retinue_server: LocalServer, audit: str, call: str, ending: str) -> None:
    """By Python's sockets alone, since audit hooks are younger than some Pythons."""
    script = f"""
import os, runpy, socket, sys
{audit}
runpy.run_path(os.path.join(os.environ["PYTHONPATH"].split(":")[0], "sitecustomize.py"))
{call}
"""
    done = ask(retinue_server, sys.executable, "-ISc", script, within=WITHOUT_CONFINEMENT)

    assert (1 if ending else 0) == done.returncode, done.stderr
    assert ending in done.stderr
    assert not ending or "Traceback" in done.stderr
