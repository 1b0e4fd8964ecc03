"""The recorder on its sockets: streams, faults, secrets, headers, and what is on the disk when."""

import base64
import json
import socket
import threading
import time

import httpx
import pytest
import yaml
from cassette_desk import (
    begin_stream,
    event,
    ran,
    recorder,
    recordings,
    replay,
    send,
    server,
    serving,
)
from jsonschema import Draft202012Validator

from poeflow.project.project import packaged, schemas_folder
from poeflow.simulator.server import Simulator

KEY = "sk-canary-0123456789abcdef"
SCHEMA = json.loads(packaged(schemas_folder() / "cassette.schema.json"))
CHAT = "/chat/completions"
BODY = {"model": "GPT-5.2", "messages": [{"role": "user", "content": "Hi"}]}


def body(text: str) -> dict[str, object]:
    return BODY | {"messages": [{"role": "user", "content": text}]}


def streamed(url: str, **rest) -> list[bytes]:
    with httpx.stream("POST", f"{url}{CHAT}", json=BODY | {"stream": True}, **rest) as answer:
        return list(answer.iter_raw())


def waited_for(is_true) -> bool:
    ends = time.monotonic() + 10
    while not is_true() and time.monotonic() < ends:
        time.sleep(0.01)
    return is_true()


def test_a_stream_passes_through_as_it_comes(tmp_path):
    went_on = threading.Event()

    def answer(handler, asked):
        write = begin_stream(handler)
        write(event({"n": 1}))
        assert went_on.wait(10)
        write(event({"n": 2}))
        write(b"")

    with (
        server(answer) as upstream,
        recorder(upstream.url, tmp_path / "tape.yaml") as recording,
        httpx.stream("POST", f"{recording.url}{CHAT}", json=BODY, timeout=5) as came,
    ):
        pieces = came.iter_raw()
        assert next(pieces) == event({"n": 1})
        went_on.set()
        assert b"".join(pieces) == event({"n": 2})
    (only,) = recordings(tmp_path / "tape.yaml")
    assert [chunk.data_ for chunk in only.response.stream] == [{"n": 1}, {"n": 2}]


def test_the_end_of_an_answer_comes_only_when_it_is_on_the_disk(tmp_path):
    tape = tmp_path / "tape.yaml"
    with Simulator() as sim, recorder(sim.base_url, tape) as recording:
        for count in range(1, 6):
            assert recording.post(CHAT, body(str(count))).status_code == 200
            assert len(recordings(tape)) == count
        recording.process.kill()
    assert len(recordings(tape)) == 5


def test_an_answer_is_recorded_whole_if_the_program_leaves(tmp_path):
    tape, left = tmp_path / "tape.yaml", threading.Event()

    def answer(handler, asked):
        write = begin_stream(handler)
        write(event({"n": 1}))
        assert left.wait(10)
        for number in range(2, 300):
            write(event({"n": number}))
        write(b"")

    with server(answer) as upstream, recorder(upstream.url, tape) as recording:
        with httpx.stream("POST", f"{recording.url}{CHAT}", json=BODY) as came:
            next(came.iter_raw())
        left.set()
        assert waited_for(tape.read_bytes)
        assert len(recordings(tape)[0].response.stream) == 299


def test_an_answer_that_is_cut_short_is_cut_short_again(tmp_path):
    tape = tmp_path / "tape.yaml"
    with (
        Simulator(faults="cut=400") as sim,
        recorder(sim.base_url, tape) as recording,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        streamed(recording.url)
    (only,) = recordings(tape)
    assert only.response.cut
    with replay(tape) as replaying, pytest.raises(httpx.RemoteProtocolError):
        streamed(replaying.url)
    assert "200, cut short" in recording.err


def test_a_server_that_is_not_there_is_an_error_and_no_recording(tmp_path):
    tape = tmp_path / "tape.yaml"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with recorder(url, tape) as recording:
            came = recording.post(CHAT, BODY)
    assert (came.status_code, came.json()["error"]["code"]) == (502, "upstream_unreachable")
    assert "refused the connection" in came.json()["error"]["message"]
    assert (recordings(tape), recording.code) == ([], 130)
    assert "not recorded: POST /v1/chat/completions: " in recording.err


def test_times_are_recorded_and_kept_only_if_asked_for(tmp_path):
    with Simulator(faults="slow=0.05") as sim:
        with recorder(sim.base_url, tmp_path / "plain.yaml") as recording:
            streamed(recording.url)
        with recorder(sim.base_url, tmp_path / "timed.yaml", "--times") as recording:
            streamed(recording.url)
    assert '"after"' not in (tmp_path / "plain.yaml").read_text()
    (timed,) = recordings(tmp_path / "timed.yaml")
    total = sum(chunk.after or 0 for chunk in timed.response.stream)
    assert total > 0.05 * (len(timed.response.stream) - 5)
    with replay(tmp_path / "timed.yaml") as replaying:
        began = time.monotonic()
        streamed(replaying.url)
        assert time.monotonic() - began > total * 0.9


def echoes(handler, asked):
    """Say all that came, as a hostile or a careless server does, and a key in pieces."""
    write = begin_stream(handler)
    said = {**asked.headers, "path": asked.path, "body": asked.body.decode(), KEY: [{KEY: 1}]}
    write(event(said))
    for at in range(0, len(KEY), 5):
        choice = {"index": 0, "delta": {"content": KEY[at : at + 5]}}
        write(event({"id": "x", "choices": [{"index": 1, "delta": {"content": "-"}}, choice]}))
    write(f": {KEY}\n\n".encode())
    write(f"event: {KEY}\ndata: {{}}\n\n".encode())
    write(b"")


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"api-key": KEY},
        {"x-api-key": KEY, "cookie": "session=biscuit-42-biscuit"},
        {"x-goog-api-key": KEY},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_no_key_is_recorded(tmp_path, headers):
    tape = tmp_path / "tape.yaml"
    secret = base64.b64encode(f"my key is {KEY}.".encode()).decode()
    sent = BODY | {"user": f"I am {KEY}", "metadata": {"api_key": "short", KEY: 1}, "extra": secret}
    with server(echoes) as upstream, recorder(upstream.url, tape) as recording:
        url = f"{recording.url}{CHAT}?key={KEY}&b=2&a=1"
        came = httpx.post(url, json=sent, headers=headers)
        assert upstream.asked[0].json == sent
        assert KEY in came.text, "what the program gets is not changed"
        for name, value in headers.items():
            assert upstream.asked[0].headers[name] == value
    text = tape.read_text()
    assert KEY not in text
    assert "biscuit" not in text
    assert secret[14:-8] not in text
    (only,) = recordings(tape)
    assert only.request.path == "/v1/chat/completions?a=1&b=2&key=[key]"
    contents = [one.data_["choices"] for one in only.response.stream[1:-2]]
    assert "".join(first["delta"]["content"] for first, _ in contents) == "-" * len(contents)
    assert "".join(second["delta"]["content"] for _, second in contents) == "[key]"
    assert only.request.json["metadata"] == {"api_key": "[key]", "[key]": 1}
    other = "another-key-0123"
    sent = json.loads(json.dumps(sent | {"extra": only.request.json["extra"]}).replace(KEY, other))
    names = {name: value.replace(KEY, other) for name, value in headers.items()}
    with replay(tape) as replaying:
        url = f"{replaying.url}{CHAT}?a=1&key={other}&b=2"
        assert httpx.post(url, json=sent, headers=names).status_code == 200


def test_a_key_of_the_environment_is_not_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("POE_API_KEY", "another-canary-98765")
    tape = tmp_path / "tape.yaml"
    with server(echoes) as upstream, recorder(upstream.url, tape) as recording:
        recording.post(CHAT, BODY | {"user": "another-canary-98765"})
    assert "another-canary-98765" not in tape.read_text()


def test_headers_of_one_connection_are_not_passed_on(tmp_path):
    tape = tmp_path / "tape.yaml"

    def answer(handler, asked):
        hidden = {"set_cookie": "a=b", "date": "now", "openai_organization": "acme"}
        send(handler, b"{}", keep_alive="timeout=5", x_request_id="r1", **hidden)

    asked = {"connection": "keep-alive, x-hop", "x_hop": "1", "te": "trailers", "x_end": "2"}
    with server(answer) as upstream, recorder(upstream.url, tape) as recording:
        came = recording.post("/models?b=2&a=%20", {}, **asked)
    got = upstream.asked[0]
    assert got.path == "/v1/models?b=2&a=%20"
    assert "x-hop" not in got.headers
    assert "te" not in got.headers
    assert (got.headers["x-end"], got.headers["accept-encoding"]) == ("2", "identity")
    assert "keep-alive" not in came.headers
    assert came.headers["set-cookie"] == "a=b"
    (only,) = recordings(tape)
    headers = dict(only.response.headers)
    headers.pop("content-type")
    assert headers == {"x-request-id": "r1"}


def test_odd_statuses_and_headers_are_recorded_and_come_back(tmp_path):
    tape = tmp_path / "tape.yaml"

    def answer(handler, asked):
        handler.wfile.write(
            b"HTTP/1.1 999 Denied\r\nx-name: caf\xc3\xa9\x85\r\nx-odd: a\x01b\r\n"
            b"content-length: 2\r\n\r\n{}"
        )

    def heads(serving):
        came = serving.post("/chat/completions", {})
        return came.status_code, dict(came.headers.raw).get(b"x-name")

    with server(answer) as upstream:
        with recorder(upstream.url, tape) as recording:
            assert heads(recording) == (999, b"caf\xc3\xa9\x85")
        with recorder(upstream.url, tape) as again:
            assert heads(again) == (999, b"caf\xc3\xa9\x85")
    assert len(upstream.asked) == 1
    assert "recorded 1: POST /v1/chat/completions: 999, without x-odd" in recording.err
    with replay(tape) as replayed:
        assert heads(replayed) == (999, b"caf\xc3\xa9\x85")


@pytest.mark.parametrize(
    ("base", "path", "target"),
    [
        ("/v1", "/v1/models", "/v1/models"),
        ("/v1", "/usage/current_balance", "/usage/current_balance"),
        ("/api/v1", "/v1/models", "/api/v1/models"),
        ("/api/v1", "/credits", "/api/credits"),
        ("/v1beta/openai", "/v1/models", "/v1beta/openai/models"),
        ("/v1beta/openai", "/files", "/files"),
        ("", "/v1/models", "/models"),
    ],
)
def test_our_address_stands_for_the_servers(tmp_path, base, path, target):
    def answer(handler, asked):
        send(handler, b"{}")

    with server(answer) as upstream:
        url = upstream.url.removesuffix("/v1") + base
        with recorder(url, tmp_path / "tape.yaml") as recording:
            httpx.get(f"{recording.url.removesuffix('/v1')}{path}")
    assert [one.path for one in upstream.asked] == [target]


def test_a_cassette_is_yaml_that_fits_its_schema(tmp_path):
    tape = tmp_path / "tape.yaml"

    def answer(handler, asked):
        if asked.body:
            echoes(handler, asked)
        else:
            send(handler, b"\xff\x00", "image/png")

    with server(answer) as upstream, recorder(upstream.url, tape, "--times") as recording:
        recording.post(CHAT, BODY | {"user": "\x7f\u2028\u202e é \U0001f9a6 \x1b"})
        httpx.get(f"{recording.url}/models")
        httpx.post(f"{recording.url}/x", content=b"a: b", headers={"content-type": "text/x"})
    Draft202012Validator.check_schema(SCHEMA)
    documents = list(yaml.safe_load_all(tape.read_text()))
    assert len(documents) == 3
    for one in documents:
        assert list(Draft202012Validator(SCHEMA).iter_errors(one)) == []
    assert "\u2028" not in tape.read_text()
    assert "🦦" in tape.read_text()


def test_a_killed_recorder_leaves_a_cassette_that_goes_on(tmp_path):
    tape = tmp_path / "tape.yaml"
    with Simulator() as sim:
        with recorder(sim.base_url, tape) as recording:
            recording.post(CHAT, BODY)
            recording.post(CHAT, body("a"))
        data = tape.read_bytes()
        tape.write_bytes(data[:-200])
        with replay(tape) as replaying:
            assert replaying.post(CHAT, BODY).status_code == 200
            assert replaying.post(CHAT, body("a")).status_code == 400
        assert f"{tape}: the last recording is incomplete, and is left out" in replaying.err
        code, out, err = ran("cassette", "explain", tape)
        assert (code, out.count("GPT-5.2")) == (0, 1)
        assert "incomplete" in err
        with recorder(sim.base_url, tape) as recording:
            assert recording.post(CHAT, body("a")).status_code == 200
        assert f"{tape}: the last recording was incomplete, and is dropped" in recording.err
    assert [one.request.json for one in recordings(tape)] == [BODY, body("a")]


def test_a_full_disk_ends_the_recording_and_spoils_nothing(tmp_path):
    tape = tmp_path / "tape.yaml"
    limit = ("bash", "-c", 'ulimit -f 8; exec "$@"', "bash")
    with Simulator() as sim, recorder(sim.base_url, tape, prefix=limit) as recording:
        came = [recording.post(CHAT, body(text)).text for text in ("a", "b", "c" * 9000)]
        assert recording.process.wait(20) == 8
    assert all('"finish_reason"' in one for one in came), "the answer is passed on"
    assert f"error: {tape}: file too large" in recording.err
    assert len(recordings(tape)) == 2


def test_two_recorders_do_not_share_a_cassette(tmp_path):
    tape = tmp_path / "tape.yaml"
    with Simulator() as sim, recorder(sim.base_url, tape):
        code, out, err = ran("simulate", "--record", sim.base_url, "--cassette", tape)
    assert (code, out) == (7, "")
    assert err == (
        f"error: {tape}: another process records to it\n  end that one, or record to another file\n"
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--record", "http://127.0.0.1:9/v1"), 2, "--record and --cassette go together"),
        (("--cassette", "a.yaml"), 2, "--record and --cassette go together"),
        (("--replay", "a.yaml", "--record", "http://x/v1"), 2, "--record and --replay exclude"),
        (("--replay", "a.yaml", "--faults", "429"), 2, "--faults does not go with --replay"),
        (("--replay", "a.yaml", "--times"), 2, "--times goes with --record"),
        (("--replay", "missing.yaml"), 2, "missing.yaml: no such file"),
        (("--replay", "."), 2, ".: is a directory"),
        (("--record", "ftp://x", "--cassette", "a.yaml"), 2, "--record is not a web address"),
        (("--record", "http://x/v1", "--cassette", "no/a.yaml"), 2, "no: no such folder"),
        (("--record", "http://x/v1", "--cassette", "notes.txt"), 3, "notes.txt:1:1: this is not"),
        (("--replay", "notes.txt"), 3, "notes.txt:1:1: this is not JSON"),
    ],
)
def test_mistakes_are_explained(tmp_path, monkeypatch, options, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("do not\nlose this\n")
    ended, out, err = ran("simulate", *options)
    assert (ended, out) == (code, "")
    assert message in err
    assert (tmp_path / "notes.txt").read_text() == "do not\nlose this\n"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_recordings_that_nothing_asked_for_are_named(tmp_path):
    tape = tmp_path / "tape.yaml"
    with Simulator() as sim, recorder(sim.base_url, tape) as recording:
        for user in "abc":
            recording.post(CHAT, body(user))
    with replay(tape) as replaying:
        replaying.post(CHAT, body("b"))
    assert "2 of 3 recordings were not used: 1, 3" in replaying.err


def test_a_request_that_cannot_be_passed_on_is_refused(tmp_path):
    with Simulator() as sim, recorder(sim.base_url, tmp_path / "tape.yaml") as recording:
        host, port = recording.url.removeprefix("http://").removesuffix("/v1").split(":")
        with socket.create_connection((host, int(port))) as line:
            line.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Name: \xc3\xa9\r\n\r\n")
            assert line.recv(100).startswith(b"HTTP/1.1 400 ")
        assert httpx.head(f"{recording.url}/models").status_code == 200
    assert [one.request.method for one in recordings(tmp_path / "tape.yaml")] == ["GET"]


def test_others_can_be_let_in_with_a_warning(tmp_path):
    (tmp_path / "tape.yaml").touch()
    with serving("--replay", tmp_path / "tape.yaml", "--host", "0.0.0.0") as replaying:
        assert replaying.post(CHAT.replace("0.0.0.0", "127.0.0.1"), BODY).status_code == 400
    assert "warning: everyone who reaches this machine can use the simulator" in replaying.err
