"""Settings come from the mapping handed in, and bad ones say so without showing a secret."""

import pytest

from poeflow import clock as durations
from poeflow import settings
from poeflow.errors import AccountError, UsageError


def test_a_key_is_stripped_and_blank_is_none():
    key = settings.api_key_from({"POE_API_KEY": "  some-key-12345\n"})
    assert key is not None
    assert key.reveal() == "some-key-12345"
    assert settings.api_key_from({"POE_API_KEY": " "}) is None
    assert settings.api_key_from({}) is None


@pytest.mark.parametrize("text", ["with a space in it", "ünïcode-key-12", "x" * 513])
def test_what_cannot_be_a_key_is_named_and_not_shown(text):
    with pytest.raises(AccountError, match="POE_API_KEY") as caught:
        settings.api_key_from({"POE_API_KEY": text})
    assert text not in str(caught.value)


def test_the_base_url_loses_its_slash():
    url = settings.base_url_from({"POE_BASE_URL": "https://example.org/v1/"})
    assert url == "https://example.org/v1"
    assert settings.base_url_from({}) is None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/v1",
        "example.org",
        "https://u:p@x/v1",
        "https://x/v1?a=1",
        "https://x/v1#a",
        "http://",
        "https://x/v1\r\nX: y",
        "https://x/v\t1",
        "https://x/v 1",
        "https://x:70000/v1",
        "https://[x/v1",
        "https://@x/v1",
    ],
)
def test_what_is_no_base_url_is_refused(url):
    with pytest.raises(UsageError, match="POE_BASE_URL"):
        settings.base_url_from({"POE_BASE_URL": url})


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "https://api.poe.com/v1", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://api.poe.com/v1", "http://p:3128"),
        ({"https_proxy": "http://p:3128"}, "https://api.poe.com/v1", "http://p:3128"),
        ({"HTTPS_PROXY": "http://p:3128"}, "http://127.0.0.1:8000/v1", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "poe.com"}, "https://api.poe.com/v1", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": ".poe.com:443"}, "https://api.poe.com/v1", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, "https://api.poe.com/v1", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "e.com"}, "https://api.poe.com", "http://p"),
        ({"HTTPS_PROXY": "127.0.0.1:3128"}, "https://api.poe.com", "http://127.0.0.1:3128"),
        ({"ALL_PROXY": "http://p"}, "https://api.poe.com", "http://p"),
        ({"all_proxy": "p:1"}, "https://api.poe.com", "http://p:1"),
        ({"ALL_PROXY": "http://a", "https_proxy": "http://p"}, "https://api.poe.com", "http://p"),
        *(
            ({"ALL_PROXY": "http://p"}, f"https://{host}:7401/v1", None)
            for host in (
                "localhost",
                "LOCALHOST",
                "localhost.",
                "a.localhost",
                "127.0.0.1",
                "127.1",
                "127.9.9.9",
                "0x7f000001",
                "2130706433",
                "[::1]",
                "[::ffff:127.0.0.1]",
            )
        ),
        *(
            ({"HTTPS_PROXY": "http://p", "NO_PROXY": f"x.com, {entry}"}, f"https://{host}", proxy)
            for entry, host, proxy in (
                ("10.1.2.3:9", "10.1.2.3/v1", "http://p"),
                ("10.1.2.3:443", "10.1.2.3/v1", None),
                ("10.1.2.3:8443", "10.1.2.3:8443/v1", None),
                ("10.0.0.0/8", "10.1.2.3/v1", None),
                ("10.0.0.0/8", "11.1.2.3/v1", "http://p"),
                ("10.0.0.0/99", "10.0.0.0/v1", "http://p"),
                ("fd00::/8", "[fd00::5]/v1", None),
                ("[fd00::5]:443", "[fd00::5]/v1", None),
                ("[fd00::5]:9", "[fd00::5]/v1", "http://p"),
                ("fd00::5", "[fd00::5]/v1", None),
                ("*.poe.com", "api.poe.com/v1", None),
                ("API.poe.com", "api.poe.com/v1", None),
                ("e.com:9", "a.e.com/v1", "http://p"),
                ("oe.com", "api.poe.com/v1", "http://p"),
                (".", "api.poe.com/v1", "http://p"),
                ("[", "api.poe.com/v1", "http://p"),
            )
        ),
    ],
)
def test_the_proxy_is_the_one_for_the_address(environ, url, proxy):
    assert settings.proxy_from(environ, url) == proxy


def test_a_proxy_that_is_none_is_refused_without_its_password():
    with pytest.raises(UsageError, match="HTTPS_PROXY") as caught:
        settings.proxy_from({"HTTPS_PROXY": "ftp://u:secret@x"}, "https://api.poe.com")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["socks://u:secret@x", "socks5h://u:secret@x:1080"])
def test_a_socks_proxy_is_told_to_be_one(proxy):
    with pytest.raises(UsageError) as caught:
        settings.proxy_from({"ALL_PROXY": proxy}, "https://api.poe.com")
    assert str(caught.value) == (
        "ALL_PROXY is a SOCKS proxy, which is not supported; "
        "name an http proxy, or except the host with NO_PROXY"
    )


@pytest.mark.parametrize(
    "host",
    ["localhost", "Localhost.", "127.0.0.1", "127.1", "::1", "[::1]", "::ffff:127.0.0.1"],
)
def test_hosts_that_are_this_machine(host):
    assert settings.is_loopback(host)


@pytest.mark.parametrize(
    "host", ["127.example.com", "a.localhost", "10.0.0.1", "0.0.0.0", "::", "", "1.2.3.4.5", "0x"]
)
def test_hosts_that_may_be_another(host):
    assert not settings.is_loopback(host)


def test_a_certificate_file_that_is_not_there_is_told(tmp_path):
    settings.check_certificates({})
    with pytest.raises(UsageError, match="SSL_CERT_FILE is not a file"):
        settings.check_certificates({"SSL_CERT_FILE": str(tmp_path / "gone.pem")})


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90.0),
        (0.5, 0.5),
        ("90", 90.0),
        ("90s", 90.0),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("250ms", 0.25),
    ],
)
def test_durations_are_read(written, seconds):
    assert durations.seconds(written) == seconds


@pytest.mark.parametrize("written", ["", "m", "1 day", "-1s", "10 m", "1e3s"])
def test_what_is_no_duration_is_refused(written):
    with pytest.raises(ValueError, match="is not a duration"):
        durations.seconds(written)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12, "12 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h"),
        (7500, "2 h 05 min"),
        (86400, "24 h"),
        (172740, "47 h 59 min"),
        (172800, "2 d"),
        (360000, "4 d 4 h"),
        (604800, "7 d"),
    ],
)
def test_durations_are_told(seconds, told):
    assert durations.spoken(seconds) == told
