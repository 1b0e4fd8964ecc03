"""Ways to the server other than our own plain connections: TLS, a proxy, httpx's transports."""

import asyncio
import gc
import gzip
import inspect
import shutil
import socket
import ssl
import subprocess
import threading
import warnings

import httpx
import pytest
from client_desk import ASKED, KEY, FakeClock, event, large, piece, reply, streamed, whole
from client_server import CLOSE, ConnectProxy, ScriptedServer

from poeflow import errors
from poeflow.client.aio import AsyncPoeClient
from poeflow.client.http.transport import _translated
from poeflow.client.http.wire import origin_of

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="makes a certificate with openssl")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate of its own making for localhost and poe.test, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "cert.pem", folder / "key.pem"
    command = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=poe.test", "-keyout", key, "-out", made]
    command += ["-addext", "subjectAltName=DNS:localhost,DNS:poe.test"]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@pytest.fixture
def secure(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with ScriptedServer(tls=context) as server:
        yield server


@pytest.fixture
def trusted(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("SSL_CERT_DIR", str(certificate[0].parent / "none"))


def https(server, host: str = "localhost") -> str:
    return f"https://{host}:{server.port}/v1"


@needs_openssl
def test_ssl_cert_file_is_trusted_and_connections_are_kept(connect, secure, trusted):
    secure.play(reply(), streamed("a", "b"), reply())
    driver = connect(base_url=https(secure))
    assert driver.create().text == "Hello"
    stream = driver.create(stream=True)
    assert driver.do(lambda _: stream.final()).text == "ab"
    assert driver.do(lambda client: client.ask(large(3_000_000))).text == "Hello"
    assert [request.connection for request in secure.requests] == [1, 1, 1]
    assert len(secure.requests[2].body) > 4_000_000


@needs_openssl
def test_a_stale_tls_connection_is_replaced(connect, secure, trusted):
    secure.play((reply(), secure.hold, CLOSE), reply())
    driver = connect(base_url=https(secure), attempts=1)
    assert driver.create().text == "Hello"
    secure.release()
    secure.wait_for(lambda: secure.open_connections == 0)
    assert driver.create().text == "Hello"
    assert [request.connection for request in secure.requests] == [1, 2]


@needs_openssl
def test_a_certificate_nobody_vouches_for_is_refused(connect, secure, monkeypatch, certificate):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    driver = connect(base_url=https(secure), clock=FakeClock())
    with pytest.raises(errors.BlockedConnectionError) as caught:
        driver.create()
    origin = f"https://localhost:{secure.port}"
    assert str(caught.value) == (
        f"the certificate of {origin} is not trusted; check the clock and SSL_CERT_FILE"
    )
    assert (caught.value.exit_code, secure.connections, secure.requests) == (1, 1, [])


@needs_openssl
def test_a_certificate_of_another_name_is_refused(connect, secure, trusted):
    driver = connect(base_url=https(secure, "127.0.0.1"), clock=FakeClock())
    with pytest.raises(errors.BlockedConnectionError) as caught:
        driver.create()
    assert str(caught.value) == (
        f"the certificate of https://127.0.0.1:{secure.port} is for another host; "
        "check the base URL and the server there"
    )
    assert (caught.value.exit_code, secure.connections, secure.requests) == (1, 1, [])


@needs_openssl
@pytest.mark.parametrize("is_known", [True, False])
def test_behind_a_proxy_certificates_are_told_the_same(
    connect, secure, certificate, monkeypatch, is_known
):
    if is_known:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    host = "other.test" if is_known else "poe.test"
    told = "is for another host" if is_known else "is not trusted"
    with ConnectProxy(secure.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        driver = connect(base_url=f"https://{host}/v1", clock=FakeClock())
        with pytest.raises(errors.BlockedConnectionError, match=told):
            driver.create()
    assert (secure.connections, secure.requests) == (1, [])


def test_a_server_without_tls_says_so(connect):
    def refuse() -> None:
        opened, _ = listener.accept()
        with opened:
            opened.recv(65536)
            opened.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = threading.Thread(target=refuse)
        refusing.start()
        url = f"https://localhost:{listener.getsockname()[1]}/v1"
        with pytest.raises(errors.BlockedConnectionError) as caught:
            connect(base_url=url, clock=FakeClock()).create()
        refusing.join(10)
    assert str(caught.value) == (
        f"{url[:-3]} does not speak TLS as expected; check the port, and http or https"
    )


def test_an_ssl_cert_file_that_is_none_is_a_mistake_of_use(connect, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(errors.UsageError, match="SSL_CERT_FILE is not a file"):
        connect()


@needs_openssl
def test_https_proxy_is_used_and_sees_no_key(connect, secure, trusted, monkeypatch):
    secure.play(reply(), streamed("a"))
    with ConnectProxy(secure.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        driver = connect(base_url="https://poe.test/v1")
        assert driver.create().text == "Hello"
        stream = driver.create(stream=True)
        assert driver.do(lambda _: stream.final()).text == "a"
        driver.do(lambda client: client.aclose() if driver.is_async else client.close())
    assert proxy.seen.startswith(b"CONNECT poe.test:443 HTTP/1.1\r\n")
    assert KEY.encode() not in proxy.seen
    assert [KEY in request.head for request in secure.requests] == [True, True]


@pytest.mark.parametrize(
    ("status", "sends", "exit_code", "hint"),
    [
        ("407 Proxy Authentication Required", 1, 1, "the user name and password in HTTPS_PROXY"),
        ("403 Forbidden", 1, 1, "it does not allow this host or port"),
        ("400 Bad Request", 1, 1, "check HTTPS_PROXY and NO_PROXY"),
        ("503 Service Unavailable", 2, 6, "it may not find or reach that host"),
        ("502 Bad Gateway", 2, 6, "it may not find or reach that host"),
        ("429 Too Many", 2, 6, "check HTTPS_PROXY and NO_PROXY"),
    ],
)
def test_a_proxy_that_refuses_says_so(connect, monkeypatch, status, sends, exit_code, hint):
    with ConnectProxy(9, status) as proxy:
        secret = proxy.url.replace("//", "//me:pass-word@")
        monkeypatch.setenv("HTTPS_PROXY", secret)
        driver = connect(base_url="https://poe.test/v1", attempts=2, clock=FakeClock())
        with pytest.raises(errors.APIConnectionError) as caught:
            driver.create()
    error = caught.value
    assert error.message == f"the proxy in front of https://poe.test refused ({status[:3]})"
    assert (error.exit_code, hint in error.hint) == (exit_code, True)
    assert "pass-word" not in f"{error}{error!r}"
    assert proxy.tunnels == sends


def test_a_proxy_that_is_not_there_is_the_one_named(connect, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("ALL_PROXY", address)
    driver = connect(base_url="https://poe.test/v1", attempts=1)
    with pytest.raises(errors.APIConnectionError) as caught:
        driver.create()
    assert caught.value.message == f"http://{address} refused the connection"


def test_no_proxy_goes_direct(connect, monkeypatch):
    with ConnectProxy(9) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "other.example,.invalid")
        driver = connect(base_url="https://poe.invalid/v1", attempts=1)
        with pytest.raises(errors.APIConnectionError, match="https://poe"):
            driver.create()
    assert proxy.seen == b""


def mocked(connect, handler, **settings):
    transport = httpx.MockTransport(handler)
    return connect(transport=transport, base_url="https://poe.example/v1", **settings)


def test_a_request_without_a_body_says_nothing_of_one(connect):
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"object": "list", "data": []})

    mocked(connect, handler).do(lambda client: client.models.list())
    assert {"transfer-encoding", "content-length"}.isdisjoint(asked[0].headers)


def test_an_httpx_transport_may_be_injected(connect):
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=whole(), headers={"x-request-id": "req-1"})

    answer = mocked(connect, handler).create()
    assert (answer.text, answer.request_id) == ("Hello", "req-1")
    assert str(asked[0].url) == "https://poe.example/v1/chat/completions"
    assert asked[0].headers.get_list("host") == ["poe.example"]
    assert asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert httpx.Response(200, content=asked[0].content).json() == ASKED


def test_a_stream_over_httpx(connect):
    body = event(piece("a")) + event(piece("b")) + event(piece(finish="stop")) + b"data: [DONE]\n\n"
    headers = {"content-type": "text/event-stream"}
    driver = mocked(connect, lambda _: httpx.Response(200, content=body, headers=headers))
    stream = driver.create(stream=True)
    assert driver.do(lambda _: stream.final()).text == "ab"


def test_a_packed_answer_over_httpx_and_directly(connect, server):
    packed = gzip.compress(httpx.Response(200, json=whole()).content)
    headers = {"content-encoding": "gzip"}

    class Raw(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self):
            yield packed

        async def __aiter__(self):
            yield packed

    driver = mocked(connect, lambda _: httpx.Response(200, stream=Raw(), headers=headers))
    assert driver.create().text == "Hello"
    server.play(reply(200, packed, content_encoding="gzip"))
    assert connect(server).create().text == "Hello"


@pytest.mark.parametrize(
    ("raised", "error", "message"),
    [
        (httpx.ConnectError, errors.APIConnectionError, "no connection to"),
        (httpx.ConnectTimeout, errors.APITimeoutError, "no connection to"),
        (httpx.ReadTimeout, errors.APITimeoutError, "not complete within"),
        (httpx.RemoteProtocolError, errors.APIConnectionError, "broke"),
    ],
)
def test_what_httpx_meets_is_told_in_our_words(connect, raised, error, message):
    def handler(request: httpx.Request) -> httpx.Response:
        raise raised(f"with {KEY} in it", request=request)

    with pytest.raises(error, match=message) as caught:
        mocked(connect, handler, attempts=1).create()
    assert type(caught.value) is error
    assert KEY not in f"{caught.value!r}{caught.value.__cause__!r}"


def test_every_error_of_httpx_has_a_translation():
    origin = origin_of("https://poe.example")
    kinds = [
        kind
        for _, kind in inspect.getmembers(httpx, inspect.isclass)
        if issubclass(kind, httpx.TransportError)
    ]
    assert len(kinds) > 12
    for kind in kinds:
        found = _translated(kind(KEY), origin)
        assert isinstance(found, TimeoutError | errors.APIConnectionError)
        assert KEY not in str(found)


def test_a_retry_over_httpx_sends_the_whole_body_again(connect):
    bodies: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(200 if len(bodies) > 1 else 500, json=whole())

    driver = mocked(connect, handler, clock=FakeClock())
    assert driver.do(lambda client: client.ask(large(500_000))).text == "Hello"
    assert bodies[0] == bodies[1]
    assert len(bodies[0]) > 600_000


def test_a_broken_stream_over_httpx_carries_what_arrived(connect):
    class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self):
            yield event(piece("Hel"))
            raise httpx.ReadError("gone")

        async def __aiter__(self):
            yield event(piece("Hel"))
            raise httpx.ReadError("gone")

    headers = {"content-type": "text/event-stream"}
    driver = mocked(connect, lambda _: httpx.Response(200, stream=Broken(), headers=headers))
    chunks = driver.chunks(driver.create(stream=True))
    next(chunks)
    with pytest.raises(errors.TruncatedStreamError) as caught:
        next(chunks)
    assert caught.value.completion.text == "Hel"


@needs_openssl
def test_behind_a_proxy_each_loop_has_connections_of_its_own(secure, trusted, monkeypatch):
    with ConnectProxy(secure.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        several = AsyncPoeClient(api_key=KEY, base_url="https://poe.test/v1", attempts=1)
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            assert [asyncio.run(_twice(several)) for _ in range(2)] == [["Hello"] * 2] * 2
            del several
            gc.collect()
    assert len({request.connection for request in secure.requests}) == 2


async def _twice(client: AsyncPoeClient) -> list[str]:
    return [(await client.chat.completions.create(**ASKED)).text for _ in range(2)]
