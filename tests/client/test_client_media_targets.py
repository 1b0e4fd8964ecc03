"""Which addresses may be asked for media: what is named, where it leads, how it is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.client.http.wire import ServerOrigin
from poeflow.client.media.media_targets import (
    MediaTarget,
    check_addresses,
    is_public,
    media_target,
    shown_address,
)
from poeflow.errors import StepError

HOSTS = (
    "*.poecdn.net",
    "cdn.example",
    "*.cdn.example:8443",
    "1.1.1.7",
    "[2606:4700::1]:99",
    "10.0.0.1",
)
LOOPBACK = ("http://127.0.0.1:8123", "http://localhost:80", "https://api.poe.com")


def read(url: str) -> MediaTarget:
    return media_target(url, hosts=HOSTS, loopback=LOOPBACK)


@pytest.mark.parametrize(
    ("url", "origin", "target"),
    [
        (
            "https://pfst.cf2.poecdn.net/base/image/0f?w=1&h=1",
            "https://pfst.cf2.poecdn.net",
            "/base/image/0f?w=1&h=1",
        ),
        ("HTTPS://A.PoeCDN.net:443/X#part", "https://a.poecdn.net", "/X"),
        ("https://cdn.example", "https://cdn.example", "/"),
        ("https://cdn.example?a=b", "https://cdn.example", "/?a=b"),
        ("https://cdn.example#b", "https://cdn.example", "/"),
        ("https://a.b.cdn.example:8443/(x)[1]~'*", "https://a.b.cdn.example:8443", "/(x)[1]~'*"),
        ("https://1.1.1.7/x", "https://1.1.1.7", "/x"),
        ("https://[2606:4700::1]:99/X", "https://[2606:4700::1]:99", "/X"),
    ],
)
def test_named_hosts_may_be_asked(url, origin, target):
    found = read(url)
    assert (str(found.origin), found.target, found.is_loopback) == (origin, target, False)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://127.0.0.1:8123/base/image/0f?w=1", "http://127.0.0.1:8123"),
        ("http://LOCALHOST/x", "http://localhost"),
    ],
)
def test_named_origins_of_this_machine_may_be_asked(url, origin):
    found = read(url)
    assert (str(found.origin), found.is_loopback) == (origin, True)


NOT_LISTED = [
    "https://poecdn.net/x",
    "https://evilpoecdn.net/x",
    "https://poecdn.net.evil.example/x",
    "https://a.poecdn.net:8443/x",
    "https://cdn.example:8443/x",
    "https://a.cdn.example/x",
    "https://api.poe.com/x",
    "https://localhost/x",
    "https://127.0.0.1:8123/x",
    "https://1.1.1.8/x",
    "https://2130706433/x",
    "https://0x7f.1/x",
]
NO_HTTPS = ["http://a.poecdn.net/x", "http://127.0.0.1:8124/x", "http://127.0.0.1/x"]
NOT_ADDRESSES = [
    "",
    "x",
    "//a.poecdn.net/x",
    "ftp://a.poecdn.net/x",
    "file:///etc/passwd",
    "https:/a.poecdn.net/x",
    "https:///x",
    "https://user@a.poecdn.net/x",
    "https://user:word@a.poecdn.net/x",
    "https://evil.example\\@a.poecdn.net/x",
    "https://evil.example\\.poecdn.net/x",
    "https://evil.example%2f.poecdn.net/x",
    "https://evil.example;.poecdn.net/x",
    "https://.poecdn.net/x",
    "https://a..poecdn.net/x",
    "https://a.poecdn.net./x",
    f"https://{'a' * 64}.poecdn.net/x",
    "https://a.poecdn.net:/x",
    "https://a.poecdn.net:0/x",
    "https://a.poecdn.net:65536/x",
    "https://a.poecdn.net:44٣/x",
    "https://ä.poecdn.net/x",
    "https://\u212a.poecdn.net/x",
    "https://[::1%25lo]/x",
    "https://a.poecdn.net/a b",
    "https://a.poecdn.net/a\r\nhost: b",
    "https://a.poecdn.net/x\n",
    "https://a.poecdn.net/\x00",
    "https://a.poecdn.net/ä",
    "https://a.poecdn.net/x\\y",
    "https://a.poecdn.net/" + "x" * 4_096,
]


@pytest.mark.parametrize("url", NOT_LISTED)
def test_other_hosts_are_not_asked(url):
    with pytest.raises(StepError, match=r"is not among the media hosts.*media_hosts in your own"):
        read(url)


def test_a_private_address_is_not_asked_even_where_it_is_named():
    with pytest.raises(StepError, match=r"10\.0\.0\.1/x is not fetched: .* a private network"):
        read("https://10.0.0.1/x")


@pytest.mark.parametrize("url", NO_HTTPS)
def test_nothing_is_asked_without_https(url):
    with pytest.raises(StepError, match="has no https"):
        read(url)


@pytest.mark.parametrize("url", NOT_ADDRESSES)
def test_what_is_no_plain_address_is_not_asked(url):
    with pytest.raises(StepError, match="is not an address"):
        read(url)


def test_a_refusal_says_what_to_do_and_hides_the_query():
    with pytest.raises(StepError) as caught:
        read("https://files.example:8443/a/b.png?token=secret#secret")
    assert str(caught.value) == (
        "files.example:8443/a/b.png is not fetched: files.example:8443 is not among the media"
        ' hosts; if you trust it, add "files.example:8443" to media_hosts in your own'
        " configuration"
    )


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://a.example/b/c?d#e", "a.example/b/c"),
        ("https://user:word@a.example/b@c", "a.example/b@c"),
        ("https://a@b@c.example", "c.example"),
        ("https://a.example?b://c", "a.example"),
        ("https://a.example/\x1b[2J\u202e", "a.example/\\x1b[2J\\u202e"),
        ("https://a.example/" + "x" * 200, "a.example/" + "x" * 89 + "…"),
        ("", ""),
    ],
)
def test_a_place_is_host_and_path(url, place):
    assert shown_address(url) == place


@pytest.mark.parametrize("hosts", [("*",), ("*.",), ("*.*",), ("",), (".poecdn.net",)])
def test_a_pattern_that_says_too_much_allows_nothing(hosts):
    with pytest.raises(StepError, match="is not among the media hosts"):
        media_target("https://a.poecdn.net/x", hosts=hosts, loopback=())


@given(st.text(alphabet="htps:/@\\.#?[]%a1 -\n\t\x00poecdn.net", max_size=40))
def test_whatever_is_written_only_named_hosts_are_asked(text):
    try:
        found = read(f"https://{text}.poecdn.net/")
    except StepError:
        return
    assert found.origin.host.endswith(".poecdn.net")
    assert found.origin.host.strip("abcdefghijklmnopqrstuvwxyz0123456789.-") == ""


PUBLIC = ["8.8.8.8", "93.184.216.34", "192.0.1.1", "2606:4700::6810:84e5", "2a00:1450::1"]
PRIVATE = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.1.2.3",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.170",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:8.8.8.8",
    "::8.8.8.8",
    "64:ff9b::8.8.8.8",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00::1",
    "fe80::1",
    "fe80::1%eth0",
    "2a00::1%eth0",
    "fec0::1",
    "ff02::1",
    "",
    "localhost",
    "127.1",
    "0177.0.0.1",
    "2130706433",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address):
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_no_host_s_own(address):
    assert not is_public(address)


@given(st.ip_addresses(network="64:ff9b::/96") | st.ip_addresses(network="::ffff:0:0/96"))
def test_no_address_within_another_is_public(address):
    assert not is_public(str(address))


REMOTE = MediaTarget(ServerOrigin("https", "a.poecdn.net", 443), "/x?token", is_loopback=False)
LOCAL = MediaTarget(ServerOrigin("http", "localhost", 8123), "/x", is_loopback=True)


def test_a_name_that_leads_where_it_should_gives_all_its_addresses():
    assert check_addresses(PUBLIC, REMOTE) == tuple(PUBLIC)
    assert check_addresses(["127.0.0.1", "::1"], LOCAL) == ("127.0.0.1", "::1")
    assert check_addresses([], REMOTE) == ()


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::ffff:8.8.8.8", "nonsense"])
def test_one_private_address_is_too_many(address):
    with pytest.raises(StepError) as caught:
        check_addresses(["8.8.8.8", address], REMOTE)
    assert str(caught.value) == (
        "a.poecdn.net/x is not fetched: its name resolves to a private network;"
        " check the name resolution of your network"
    )


@pytest.mark.parametrize("address", ["8.8.8.8", "192.168.1.1", "nonsense"])
def test_what_should_be_on_this_machine_leads_nowhere_else(address):
    with pytest.raises(
        StepError, match=r"localhost:8123/x .* resolves to a machine other than this"
    ):
        check_addresses(["127.0.0.1", address], LOCAL)
