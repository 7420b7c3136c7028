"""Serve a sample graph and send the first query of TikTok's page.

Everything runs through the command line, as for a user. `DEMO_ONCE=1` stops after the first response, and exits with
0 only if it was right.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / ".cache" / "demo"
STORE = FOLDER / "graph.db"
QUERY = '{"username": "test_user", "max_count":3, "cursor": 1685544251}'
# The response on TikTok's page, without the log_id.
EXPECTED = {
    "has_more": True,
    "user_following": [
        {"display_name": "test user", "username": "test_username"},
        {"display_name": "test user 2", "username": "test_username2"},
        {"display_name": "test user 3", "username": "test_username3"},
    ],
    "cursor": 1650642422,
}


def main() -> int:
    """Run the demo; return the exit code."""
    require_free_port()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM must stop the server too
    make_store()
    client = json.loads(retinue("client", "create", "--store", str(STORE), "--name", "demo", "--json"))
    print("3. A client is registered.")
    is_right = False
    server = subprocess.Popen([*command("serve"), "--store", str(STORE)], stdout=subprocess.PIPE, text=True)
    try:
        host = address(server)
        token = fetch_token(host, client)
        is_right = first_query(host, token)
        if os.environ.get("DEMO_ONCE"):
            return 0 if is_right else 1
        what_next(host, client, token)
        signal.pause()
    except KeyboardInterrupt:
        print("\nStopping.")
    finally:
        server.terminate()
        server.wait()
    return 0 if is_right else 1


def require_free_port() -> None:
    """Exit before anything is changed if a port is in use."""
    for name, default in (("RETINUE_PORT", 8642), ("RETINUE_MANAGEMENT_PORT", 8643)):
        port = int(os.environ.get(name, default))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                sys.exit(f"demo: port {port}: {error.strerror}; stop what runs there, or {name}=... make demo")


def make_store() -> None:
    """Create a new store with the sample graph."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    sample = FOLDER / "sample"
    retinue("generate", "--accounts", "5000", "--follows", "100000", "--seed", "1", "-o", str(sample))
    print("1. A sample graph is made: 5,000 accounts, 100,000 follows.")
    files = ["--accounts", str(sample / "accounts.csv"), str(sample / "follows.csv")]
    print(retinue("import", "--store", str(STORE), *files))
    print("2. It is imported.")


def fetch_token(host: str, client: dict[str, str]) -> str:
    """Request a client access token, as TikTok's clients do."""
    form = f"client_key={client['client_key']}&client_secret={client['client_secret']}&grant_type=client_credentials"
    answer = post(f"{host}/v2/oauth/token/", form, {"Content-Type": "application/x-www-form-urlencoded"})
    print("4. The server is up, and the client has a token for two hours.\n")
    return str(answer["access_token"])


def first_query(host: str, token: str) -> bool:
    """Send the query of TikTok's page; return whether the response matches."""
    url = f"{host}/v2/research/user/following/"
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    lines = [f"curl --location '{url}'", *(f"--header '{name}: {value}'" for name, value in headers.items())]
    print(" \\\n    ".join([*lines, f"--data '{QUERY}'"]) + "\n")
    answer = curl(url, headers) if shutil.which("curl") else post(url, QUERY, headers)
    print(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")
    is_right = answer.get("data") == EXPECTED and answer["error"]["code"] == "ok"
    print("This is the answer on TikTok's page." if is_right else "This is NOT the answer on TikTok's page.")
    return is_right


def curl(url: str, headers: dict[str, str]) -> dict[str, Any]:
    """Return the response to the printed curl command."""
    fields = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    done = subprocess.run(
        ["curl", "--silent", "--location", url, *fields, "--data", QUERY], check=True, capture_output=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def what_next(host: str, client: dict[str, str], token: str) -> None:
    """Print commands to try next."""
    print(f"""
Serving until Ctrl-C. Things to try in another terminal:
  - the next page, which is the last one of this list:
      curl {host}/v2/research/user/following/ -H 'Authorization: Bearer {token}' \\
        -d '{{"username": "test_user", "max_count": 3, "cursor": 1650642422}}'
  - a longer list: usernames are in {FOLDER / "sample" / "accounts.csv"}
  - another token:
      curl {host}/v2/oauth/token/ \\
        -d 'client_key={client["client_key"]}&client_secret={client["client_secret"]}&grant_type=client_credentials'
  - your own graph: .venv/bin/retinue import --store graph.db follows.csv   (docs/tutorial.md)""")


def command(*arguments: str) -> list[str]:
    """Return a command line of this checkout's program."""
    return [sys.executable, "-m", "retinue", *arguments]


def retinue(*arguments: str) -> str:
    """Run a command and return its output; exit if it fails."""
    done = subprocess.run(command(*arguments), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def address(server: "subprocess.Popen[str]") -> str:
    """Return the address in the server's first line; exit without one."""
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        sys.exit(server.wait())
    return line.split(" on ")[1].split()[0]


def post(url: str, body: str, headers: dict[str, str]) -> dict[str, Any]:
    """Return the response to a POST request."""
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers)) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


if __name__ == "__main__":
    sys.exit(main())
