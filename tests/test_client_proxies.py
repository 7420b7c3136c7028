"""The client uses the proxies of the environment and reveals no password."""

from pathlib import Path

import pytest

from retinue.client import Client, GaveUp, addresses
from retinue.errors import InputError
from support.collecting import SHORT, odd
from support.scripted_service import Said, scripted


def test_passwords_of_other_programs_are_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry for the host in `.netrc` changes nothing."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hidden\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with scripted(odd) as url, Client("k", "s", url, policy=SHORT) as client:
        assert client.user_info("anna").follower_count == 3


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not for hosts that it leaves out."""
    with scripted(odd) as url:
        monkeypatch.setenv("http_proxy", url)
        with Client("k", "s", "http://service.invalid", policy=SHORT) as client, pytest.raises(GaveUp):
            client.user_info("anna")  # the proxy was asked for a whole URL, and had no token there
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with Client("k", "s", url, policy=SHORT) as client:
            assert client.user_info("anna").follower_count == 3


def test_the_password_of_a_proxy_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The password stays hidden whatever the proxy answers."""
    with scripted(odd, lambda: Said(b"", 407)) as url:
        for spelled in ("http://user:hidden@127.0.0.1", "HTTP://user:hidden@LOCALHOST"):
            monkeypatch.setenv("https_proxy", url.replace("http://127.0.0.1", spelled))
            with Client("k", "s", "https://service.invalid", policy=SHORT) as client, pytest.raises(GaveUp) as caught:
                client.user_info("anna")
            assert "ClientHttpProxyError" in str(caught.value)
            assert "hidden" not in str(caught.value)


def test_the_proxy_of_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its scheme."""
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert addresses.proxy_of("https://open.tiktokapis.com") == "http://proxy:3128"
    assert addresses.proxy_of("http://127.0.0.1:8642") is None


def test_invalid_proxies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not shown, since a password may be in it; a scheme may be missing."""
    monkeypatch.setenv("https_proxy", "me:hid%40den@proxy:3128")
    assert addresses.proxy_of("https://open.tiktokapis.com") == "http://me:hid%40den@proxy:3128"
    monkeypatch.setenv("https_proxy", "http://me:hid#den@proxy:3128")
    with pytest.raises(InputError, match="https_proxy in the environment is not the address of a proxy"):
        Client("k", "s")
