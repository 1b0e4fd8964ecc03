"""Settings come from the mapping handed in, and bad ones say so without showing a secret."""

import pytest

from poeflow import durations, settings
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
    ],
)
def test_the_proxy_is_the_one_for_the_address(environ, url, proxy):
    assert settings.proxy_from(environ, url) == proxy


def test_a_proxy_that_is_none_is_refused_without_its_password():
    with pytest.raises(UsageError, match="HTTPS_PROXY") as caught:
        settings.proxy_from({"HTTPS_PROXY": "socks://u:secret@x"}, "https://api.poe.com")
    assert "secret" not in str(caught.value)


def test_a_certificate_file_that_is_not_there_is_told(tmp_path):
    settings.check_certificates({})
    with pytest.raises(UsageError, match="SSL_CERT_FILE names no file"):
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
    ("seconds", "told"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (12, "12 s"), (185, "3 min 05 s")]
)
def test_durations_are_told(seconds, told):
    assert durations.spoken(seconds) == told
