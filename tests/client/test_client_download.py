"""Media are fetched whole, from where they may be, and whatever else answers is an error."""

import asyncio
import shutil
import ssl
import subprocess

import msgspec
import pytest
from client_desk import END, FakeClock, chunk, reply
from client_server import CLOSE, HOLD, RESET, ConnectProxy, ScriptedServer

from poeflow import errors
from poeflow.answers.media_links import file_name, urls_in
from poeflow.client.aio import AsyncPoeClient
from poeflow.client.http.aio import Internet
from poeflow.client.media.download import DownloadRules, download, wanted
from poeflow.errors import StepError
from poeflow.simulator.server import Simulator

OPENSSL = shutil.which("openssl")
PUBLIC = "93.184.216.34"
HOST = "pfst.cf2.poecdn.net"
URL = f"https://{HOST}/base/image/0f?w=1&token=secret"
PLACE = f"{HOST}/base/image/0f"
EXPIRED = "the address may have expired; request it again with --refresh"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(1_000)
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Detour(Internet):
    """An internet of one server, to which every public address leads, without TLS unless asked."""

    def __init__(self, server, names=None, *, secure=False, dead=()):
        self.server, self.secure, self.dead = server, secure, dead
        self.names = names or {}
        self.resolved: list[str] = []
        self.connected: list[tuple[str, str]] = []

    async def addresses(self, origin):
        self.resolved.append(origin.host)
        return self.names.get(origin.host, (PUBLIC,))

    async def connect(self, origin, address):
        self.connected.append((str(origin), address))
        if address in self.dead:
            raise self.dead[address]
        scheme = "https" if self.secure else "http"
        there = msgspec.structs.replace(origin, scheme=scheme, port=self.server.port)
        return await super().connect(there, "127.0.0.1")


def fetched(server, *, url=URL, network=None, clock=None, **rules):
    """Download with the detour, and let the event loop see what was closed."""

    async def fetch():
        try:
            return await download(
                url,
                DownloadRules(**rules),
                clock=clock or FakeClock(),
                network=network or Detour(server),
            )
        finally:
            await asyncio.sleep(0)

    return asyncio.run(fetch())


def refused(server, **given) -> str:
    with pytest.raises(StepError) as caught:
        fetched(server, **given)
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 1
    return str(caught.value)


def redirect(location: str, status: int = 302) -> bytes:
    return reply(status, b"", location=location)


@pytest.mark.parametrize("bot", ["Imagen-4", "Sora-2", "ElevenLabs-v3"])
async def test_what_a_bot_of_the_simulator_made_is_fetched(bot):
    async with (
        Simulator() as sim,
        AsyncPoeClient(api_key="any-key-at-all", base_url=sim.base_url) as poe,
    ):
        asked = {"model": bot, "messages": [{"role": "user", "content": "an (otter]"}]}
        answer = await poe.chat.completions.create(**asked)
        (url,) = urls_in(answer.text)
        data = await download(url, DownloadRules(loopback={sim.origin}), clock=FakeClock())
    kind = {"Imagen-4": ".png", "Sora-2": ".mp4", "ElevenLabs-v3": ".wav"}[bot]
    assert file_name(data).endswith(kind)


def test_nothing_on_this_machine_is_asked_unless_named(server):
    url = f"http://127.0.0.1:{server.port}/x"
    message = f"127.0.0.1:{server.port}/x has no https"
    assert refused(server, url=url, network=Internet()).startswith(message)
    assert server.connections == 0


def test_a_file_is_asked_for_without_key_and_cookies(server):
    server.play(reply(200, PNG, content_type="image/png", set_cookie="a=b"))
    network = Detour(server)
    assert fetched(server, network=network) == PNG
    assert server.requests[0].head == (
        "GET /base/image/0f?w=1&token=secret HTTP/1.1\r\n"
        f"host: {HOST}\r\n"
        "accept: */*\r\n"
        "accept-encoding: identity\r\n"
        "connection: close\r\n"
        "user-agent: poeflow\r\n"
    )
    assert network.resolved == [HOST]
    assert network.connected == [(f"https://{HOST}", PUBLIC)]
    assert server.wait_for(lambda: server.open_connections == 0)


@pytest.mark.parametrize(
    "answer",
    [
        (CHUNKED + chunk(PNG[:5]) + chunk(PNG[5:]) + END,),
        (b"HTTP/1.1 200 OK\r\n\r\n" + PNG, CLOSE),
        (b"HTTP/1.0 200 OK\r\ncontent-type: application/octet-stream\r\n\r\n" + PNG, CLOSE),
        (b"HTTP/1.1 103 X\r\nlink: x\r\n\r\n" + reply(200, PNG),),
        (reply(200, PNG, content_encoding="identity") + b"more than announced",),
    ],
)
def test_a_file_is_read_to_its_end(server, answer):
    server.play(answer)
    assert fetched(server) == PNG


def test_a_private_address_is_not_connected_to(server):
    network = Detour(server, {HOST: (PUBLIC, "169.254.169.254")})
    assert refused(server, network=network) == (
        f"{PLACE} is not fetched: its name resolves to a private network;"
        " check the name resolution of your network"
    )
    assert (network.connected, server.connections) == ([], 0)


def test_the_next_address_is_tried_where_one_does_not_answer(server):
    server.play(reply(200, PNG))
    dead = {"2606:4700::1": OSError(), "8.8.8.8": ConnectionRefusedError()}
    network = Detour(server, {HOST: ("2606:4700::1", "8.8.8.8", PUBLIC)}, dead=dead)
    assert fetched(server, network=network) == PNG
    assert [address for _, address in network.connected] == ["2606:4700::1", "8.8.8.8", PUBLIC]


def test_a_host_without_an_address_that_answers_is_an_error_of_the_network(server):
    network = Detour(server, dead={PUBLIC: ConnectionRefusedError()})
    clock = FakeClock()
    with pytest.raises(errors.APIConnectionError) as caught:
        fetched(server, network=network, clock=clock)
    assert caught.value.message == f"https://{HOST} refused the connection"
    assert caught.value.exit_code == 6
    assert len(network.connected) == 3
    assert len(clock.waits) == 2


def test_a_name_that_is_not_found_says_so(server):
    url = "https://no-such-name.invalid/x"
    with pytest.raises(errors.APIConnectionError, match=r"the name of .* could not be found"):
        fetched(server, url=url, network=Internet(), hosts=("*.invalid",))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server, status):
    server.play(redirect(f"https://b.poecdn.net/{status}?x", status), reply(200, PNG))
    network = Detour(server)
    assert fetched(server, network=network) == PNG
    assert network.connected == [
        (f"https://{HOST}", PUBLIC),
        ("https://b.poecdn.net", PUBLIC),
    ]
    assert server.requests[1].head.startswith(f"GET /{status}?x HTTP/1.1\r\nhost: b.poecdn.net")
    assert "referer" not in server.requests[1].head


def test_three_redirects_are_followed_and_no_more(server):
    hops = [redirect(f"../{n}") for n in range(3)]
    server.play(*hops, reply(200, PNG), *hops, redirect("/3"))
    network = Detour(server)
    assert fetched(server, network=network) == PNG
    assert network.resolved == [HOST] * 4
    message = f"{PLACE} redirects more than 3 times; {EXPIRED}"
    assert refused(server, network=network) == message
    assert len(server.requests) == 8


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://evil.example/x?secret", "evil.example/x is not fetched: evil.example is not"),
        ("http://b.poecdn.net/x", "b.poecdn.net/x has no https"),
        ("//user@b.poecdn.net/x", "b.poecdn.net/x is not an address"),
        ("http://127.0.0.1:1/x", "127.0.0.1:1/x has no https"),
        ("file:///etc/passwd", "/etc/passwd is not an address"),
        ("https://inside.poecdn.net/x", "inside.poecdn.net/x is not fetched: its name resolves to"),
        ("https://b.poecdn.net\\@evil.example/", "evil.example/ is not an address"),
        ("https://[b/", "redirects nowhere"),
    ],
)
def test_what_a_redirect_leads_to_is_checked_from_scratch(server, location, told):
    server.play(redirect(location))
    network = Detour(server, {"inside.poecdn.net": ("10.0.0.1",)})
    message = refused(server, network=network)
    assert message.startswith((f"{PLACE} redirects: {told}", f"{PLACE} {told}"))
    assert len(server.requests) == 1


def test_a_redirect_without_an_address_is_refused(server):
    server.play(reply(302, b""))
    assert refused(server) == f"{PLACE} redirects nowhere; {EXPIRED}"


@pytest.mark.parametrize(
    "answer",
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n", HOLD),
        (CHUNKED + chunk(bytes(600_000)) * 2, HOLD),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1_048_577), HOLD),
    ],
)
def test_a_file_over_the_limit_is_given_up_at_once(server, answer):
    server.play(answer)
    message = f"{PLACE} is larger than 1 MiB; ask the bot for less"
    assert refused(server, limit=1_048_576) == message
    assert server.wait_for(lambda: server.open_connections == 0)


def test_a_file_of_exactly_the_limit_is_fetched(server):
    server.play(reply(200, bytes(1_048_576)))
    assert fetched(server, limit=1_048_576) == bytes(1_048_576)


@pytest.mark.parametrize(
    ("header", "media_type"),
    [
        ("text/html; charset=utf-8", "text/html"),
        ("TEXT/plain", "text/plain"),
        ("application/json", "application/json"),
        ("application/problem+json", "application/problem+json"),
        ("application/xhtml+xml", "application/xhtml+xml"),
        ("image/svg+xml", "image/svg+xml"),
        ("application/xml", "application/xml"),
    ],
)
def test_documents_are_no_media(server, header, media_type):
    server.play(reply(200, PNG, content_type=header))
    message = f"{PLACE} is {media_type}, not an image, video or audio; {EXPIRED}"
    assert refused(server) == message


def test_what_was_compressed_unasked_is_refused(server):
    server.play(reply(200, PNG, content_encoding="gzip"))
    message = f"{PLACE} is compressed, which was not requested; {EXPIRED}"
    assert refused(server) == message


@pytest.mark.parametrize("status", [201, 206, 304, 400, 401, 402, 403, 404, 410, 451])
def test_a_refused_file_fails_the_step_and_nothing_else(server, status):
    server.play(reply(status, b"no"))
    assert refused(server) == f"{PLACE} is not available ({status}); {EXPIRED}"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (408, errors.RequestTimeoutError),
        (429, errors.RateLimitError),
        (500, errors.InternalServerError),
        (503, errors.InternalServerError),
        (529, errors.OverloadedError),
    ],
)
def test_what_may_pass_is_tried_three_times(server, status, error_class):
    clock = FakeClock()
    server.play(reply(status), reply(status), reply(200, PNG), *[reply(status)] * 3)
    assert fetched(server, clock=clock) == PNG
    with pytest.raises(error_class) as caught:
        fetched(server, clock=clock)
    assert str(caught.value) == f"{PLACE} is not available now ({status}); try again"
    assert caught.value.exit_code == 6
    assert len(server.requests) == 6
    assert len(clock.waits) == 4


def test_the_server_s_wish_when_to_come_again_is_kept(server):
    clock = FakeClock()
    server.play(reply(429, retry_after="7"), reply(503, retry_after="100000"))
    with pytest.raises(errors.InternalServerError):
        fetched(server, clock=clock)
    assert clock.waits == [7.0]


@pytest.mark.parametrize("ending", [CLOSE, RESET])
def test_a_connection_that_breaks_is_tried_again(server, ending):
    server.play((ending,), (reply(200, PNG)[:-3], ending), (CHUNKED + chunk(PNG), ending))
    with pytest.raises(errors.APIConnectionError, match=f"https://{HOST}"):
        fetched(server)
    server.play((ending,), (reply(200, PNG)[:-3], ending), reply(200, PNG))
    assert fetched(server) == PNG
    assert len(server.requests) == 6


def test_a_server_that_speaks_something_else_says_so(server):
    server.play(*[(b"SSH-2.0-OpenSSH_9.0\r\n\r\n", CLOSE)] * 3)
    with pytest.raises(errors.APIResponseError) as caught:
        fetched(server)
    message = f"{PLACE} could not be read: the server does not speak HTTP; try again"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "answer", [(HOLD,), (CHUNKED, HOLD), (reply(200, PNG)[:-1], HOLD), (redirect("/x"),)]
)
def test_an_attempt_takes_no_longer_than_it_may(server, answer):
    server.play(*[answer, (HOLD,)] * 3 if answer == (redirect("/x"),) else [answer] * 3)
    clock = FakeClock()
    with pytest.raises(errors.APITimeoutError) as caught:
        fetched(server, clock=clock, timeout=0.1)
    assert str(caught.value) == f"{PLACE} did not arrive within 0.1 s; try again"
    assert len(clock.waits) == 2
    assert server.wait_for(lambda: server.open_connections == 0)


async def test_a_cancelled_download_leaves_nothing_open(server):
    server.play((CHUNKED, chunk(PNG), HOLD))
    task = asyncio.create_task(
        download(URL, DownloadRules(), clock=FakeClock(), network=Detour(server))
    )
    await asyncio.to_thread(server.wait_for, lambda: server.requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(server.wait_for, lambda: server.open_connections == 0)


def test_of_an_answer_s_addresses_those_that_may_be_asked_are_wanted():
    rules = DownloadRules(hosts=("a.example",), loopback={"http://127.0.0.1:8123"})
    mine = ("https://a.example/x", "http://127.0.0.1:8123/y")
    assert wanted((mine[0], "https://b.example/page", mine[1]), rules) == mine
    assert wanted((), rules) == ()
    with pytest.raises(StepError, match=r"b\.example/x is not fetched"):
        wanted(("https://b.example/x", "https://c.example/x"), rules)


def test_more_files_than_anybody_asks_for_are_not_fetched():
    urls = [f"https://a.poecdn.net/{n}" for n in range(1_001)]
    assert wanted(urls[:100], DownloadRules()) == tuple(urls[:100])
    with pytest.raises(StepError) as caught:
        wanted(urls, DownloadRules())
    message = "the answer names 1,001 files; at most 100 are fetched; ask the bot for fewer"
    assert str(caught.value) == message


@pytest.fixture(scope="session")
def media_certificate(tmp_path_factory):
    """A certificate of its own making for the media host, and its key."""
    if OPENSSL is None:
        pytest.skip("makes a certificate with openssl")
    folder = tmp_path_factory.mktemp("media-tls")
    made, key = folder / "cert.pem", folder / "key.pem"
    command = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={HOST}", "-keyout", key, "-out", made]
    command += ["-addext", f"subjectAltName=DNS:{HOST}"]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@pytest.fixture
def secure(media_certificate, monkeypatch):
    """A server of that certificate, which is trusted; it notes the names it was called by."""
    monkeypatch.setenv("SSL_CERT_FILE", str(media_certificate[0]))
    monkeypatch.setenv("SSL_CERT_DIR", str(media_certificate[0].parent / "none"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*media_certificate)
    called: list[str] = []
    context.sni_callback = lambda _socket, name, _context: called.append(name)
    with ScriptedServer(tls=context) as server:
        server.called = called
        yield server


def test_a_host_proves_its_name_wherever_it_was_found(secure):
    secure.play(reply(200, PNG))
    assert fetched(secure, network=Detour(secure, secure=True)) == PNG
    assert secure.called == [HOST]


def test_a_certificate_of_another_name_is_refused(secure):
    network = Detour(secure, secure=True)
    with pytest.raises(errors.APIConnectionError, match="is for another host"):
        fetched(secure, url="https://b.poecdn.net/x", network=network)
    assert secure.requests == []


def test_a_proxy_is_used_and_finds_the_host_by_itself(secure):
    secure.play(reply(200, PNG))
    network = Detour(secure)
    asked: list[str] = []
    with ConnectProxy(secure.port) as proxy:

        def proxy_of(url: str) -> str:
            asked.append(url)
            return proxy.url

        assert fetched(secure, network=network, proxy_of=proxy_of) == PNG
        assert proxy.seen.startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n".encode())
        assert b"secret" not in proxy.seen
    assert asked == [f"https://{HOST}"]
    assert (network.resolved, secure.called) == ([], [HOST])
    head = secure.requests[0].head.lower()
    assert f"host: {HOST}\r\n" in head
    assert "authorization" not in head


def test_what_comes_through_a_proxy_is_bounded_as_well(secure):
    secure.play((CHUNKED + chunk(bytes(600)) * 2, HOLD))
    with ConnectProxy(secure.port) as proxy:
        message = refused(secure, proxy_of=lambda _: proxy.url, limit=1_000)
    assert message.startswith(f"{PLACE} is larger than")


def test_a_proxy_that_refuses_is_an_error_of_the_network(secure):
    with (
        ConnectProxy(secure.port, status="403 Forbidden") as proxy,
        pytest.raises(errors.APIConnectionError, match=f"the proxy in front of https://{HOST}"),
    ):
        fetched(secure, proxy_of=lambda _: proxy.url)


def test_an_address_behind_a_proxy_is_still_checked(server):
    rules = {"hosts": ("127.0.0.1", "10.0.0.1"), "proxy_of": lambda _: "http://127.0.0.1:9"}
    for host in rules["hosts"]:
        message = refused(server, url=f"https://{host}/x", **rules)
        assert "resolves to a private network" in message


def test_this_machine_is_never_asked_through_a_proxy(server):
    server.play(reply(200, PNG))
    origin = f"http://127.0.0.1:{server.port}"
    rules = {"loopback": {origin}, "proxy_of": lambda _: "http://127.0.0.1:9"}
    assert fetched(server, url=f"{origin}/x", network=Internet(), **rules) == PNG
