"""The server: who gets in, what is where, and what is told when something is not."""

import asyncio
import http.client
import re
import socket
import threading
from urllib.parse import urlsplit

import pytest
from view_runs import (
    HOSTILE,
    asked,
    bad_run,
    good_run,
    keep,
    large_run,
    png,
    run_record,
    shown,
    unfinished_run,
)
from view_served import ask, served

from poeflow.digest import sha256_of
from poeflow.errors import DiskError, UsageError
from poeflow.records import RunEnd, RunRow
from poeflow.redact import Scrubber, Secret
from poeflow.report.pages.site import serve
from poeflow.report.pages.source import ScrubbedRecords
from poeflow.store.history import History

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def history(folder):
    """Five runs: good, hostile, good again, large, unfinished."""
    (folder / ".poeflow").mkdir()
    with History(folder / ".poeflow/poeflow.db", warn=pytest.fail) as made:
        good_run(made, folder)
        bad_run(made)
        good_run(made, folder, second=True)
        large_run(made, 260)
        unfinished_run(made)
        yield made


@pytest.fixture(scope="module")
def server(history, folder):
    with served(shown(history, folder)) as serving:
        yield serving


PLACES = [
    "", "?text=otters&state=ok&simulated=no&flow=//flows/notes.yaml", "?page=9", "runs/1", "runs/2",
    "runs/4", "runs/5", "runs/1/steps/4", "runs/1/steps/4?rows=tone", "runs/4/steps/2?page=2",
    "runs/1/2", "runs/2/1", "runs/2/3", "compare?a=1&b=3", "compare?a=1&b=2",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_pages_are_strict_and_private(server, place):
    answer = ask(server.address + place)
    assert answer.status == 200
    expected = {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert "set-cookie" not in answer.headers
    assert "server" not in answer.headers
    page = answer.text
    assert page.startswith("<!doctype html>")
    assert page.count("<script") == 1  # ours, by its address
    assert " style=" not in page
    assert "javascript:" not in "".join(page.split('href="')[1:]).split('"')[0::2]


@pytest.mark.parametrize(
    "place",
    ["runs/9", "runs/0", "runs/1/99", "runs/1/0", "runs/1/steps/9", "runs/1/steps/0", "runs/x",
     "compare", "compare?a=1", "compare?a=x&b=1", "assets/x", "assets/../server.py", "nothing",
     "runs/1/99/text", "runs/1/1/text", "runs/" + "9" * 30],
)  # fmt: skip
def test_what_is_not_there_is_told(server, place):
    answer = ask(server.address + place)
    assert answer.status == 404
    assert "There is no such run, step or answer." in answer.text
    assert answer.headers["content-security-policy"] == POLICY


def test_without_the_secret_path_there_is_nothing(server):
    for path in (
        "/",
        "/runs/1",
        "/assets/style.css",
        server.root[:-1] + "/",
        "/%ff/",
        "//",
        "/open/",
    ):
        answer = ask(server.origin + path)
        assert (answer.status, answer.text) == (
            404,
            "open the whole address that poeflow printed\n",
        )
    assert len(server.root) > 30


def test_the_path_leads_to_the_list(server):
    answer = ask(server.origin + server.root)
    assert (answer.status, answer.headers["location"]) == (308, f"{server.root}/")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "[::1]:80", ""])
def test_another_name_is_refused(server, host):
    answer = ask(server.address, Host=host)
    assert (answer.status, answer.headers["content-security-policy"]) == (403, POLICY)


def test_localhost_is_the_same_machine(server):
    port = urlsplit(server.origin).port
    assert ask(server.address, Host=f"localhost:{port}").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_changed(server, method):
    answer = ask(server.address, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_heads_are_answered(server):
    answer = ask(server.address, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_a_browser_is_let_in_once(server):
    before = server.opening()
    address = server.opening()
    assert ask(before).status == 404
    assert ask(address, method="HEAD").status == 404
    answer = ask(address)
    assert (answer.status, answer.headers["location"]) == (303, f"{server.root}/")
    assert ask(address).status == 404


def test_a_browser_is_let_in_for_a_minute(history, folder):
    now = [100.0]
    with served(shown(history, folder), clock=lambda: now[0]) as serving:
        address = serving.opening()
        now[0] = 159.9
        assert ask(address).status == 303
        address = serving.opening()
        now[0] = 219.9
        assert ask(address).status == 404


def test_it_listens_on_loopback_alone_and_a_port_is_taken_once(history, folder):
    with served(shown(history, folder)) as serving:
        port = urlsplit(serving.origin).port
        with pytest.raises(UsageError) as caught:
            asyncio.run(enter(shown(history, folder), port))
        assert str(caught.value) == (
            f"port {port} cannot be used: address already in use; "
            "take another --port, or 0 for a free one"
        )
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


async def enter(what, port):
    async with serve(what, port=port):
        pytest.fail("the port was taken")


def test_an_answer_is_to_be_had_as_text(server):
    answer = ask(f"{server.address}runs/2/1/text")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.body == HOSTILE.encode("utf-8", "backslashreplace")
    assert ask(f"{server.address}runs/2/3/text").body == b"x" * 1_048_576


def test_pictures_are_those_an_instance_names(server, folder):
    attached, drawn = sha256_of(png()), sha256_of(png(90))
    for digest, data in ((attached, png()), (drawn, png(90))):
        answer = ask(f"{server.address}runs/1/2/pictures/{digest}")
        assert (answer.status, answer.headers["content-type"], answer.body) == (
            200,
            "image/png",
            data,
        )
    (folder / "other.png").write_bytes(png(1))
    strange = sha256_of((folder / "other.png").read_bytes())
    for place in (f"1/2/pictures/{strange}", f"2/1/pictures/{attached}", "1/2/pictures/..%2fx"):
        assert ask(f"{server.address}runs/{place}").status == 404


def test_the_answer_is_shown_and_hostile_text_is_text(server):
    page = ask(f"{server.address}runs/2/1").text
    assert "&lt;script&gt;window.__hacked = 1&lt;/script&gt;" in page
    assert '<a href="https://example.org/?a=1&amp;b=2" rel="noopener noreferrer nofollow">' in page
    assert "picture: leak</a>" in page
    assert "<img" not in page
    assert "\\x1b[31mred\\x1b[0m \\u202eturned\\u202c \\ud83d half {{ 7 * 7 }}" in page


def test_a_default_stands_below_the_answer_in_whose_place_it_is(tmp_path):
    one = asked("sort", "question", answer="feature <b>", unread='none of "bug"')
    with History(tmp_path / "poeflow.db", warn=pytest.fail) as made:
        keep(made, run_record(), [one], RunEnd(exit_code=0, seconds=1.0))
        with served(shown(made, tmp_path)) as serving:
            page = ask(f"{serving.address}runs/1/1").text
            listed = ask(f"{serving.address}runs/1").text
    assert "cannot be used: none of &#34;bug&#34;." in page
    assert page.index("feature &lt;b&gt;") < page.index("question")
    assert "default: question" in listed


def test_a_long_answer_is_cut_and_the_rest_is_a_click_away(server):
    page = ask(f"{server.address}runs/2/3").text
    assert page.count("x" * 200_000) == 1
    assert "x" * 200_001 not in page
    assert "848,576 characters more are not shown." in page
    assert f'href="{server.root}/runs/2/3/text"' in page


def test_a_run_without_an_end_is_summed_up_by_what_was_kept_of_it(server):
    page = " ".join(re.sub("<[^>]*>", " ", ask(f"{server.address}runs/5").text).split())
    for told in ("asked 1 ", "requests 2 ", "tokens 908 ", "of unknown outcome 1 "):
        assert told in page
    assert "run it again to go on: 1 is done and not asked again" in page


def test_runs_are_filtered_and_searched(server):
    def found(query):
        return [n for n in range(1, 6) if f'/runs/{n}"' in ask(f"{server.address}?{query}").text]

    assert found("") == [1, 2, 3, 4, 5]
    assert found("state=failed") == [2]
    assert found("state=unfinished") == [5]
    assert found("simulated=yes") == [5]
    assert found("simulated=no&flow=//flows/notes.yaml") == [1, 3]
    assert found("text=quarter+weight") == [1, 3]
    assert found("text=%00%22nowhere+OR+(") == []
    assert found("state=odd&simulated=odd&page=-1") == [1, 2, 3, 4, 5]


def test_runs_are_paged(tmp_path):
    with History(tmp_path / "poeflow.db", warn=pytest.fail) as history:
        for number in range(52):
            keep(history, run_record(f"f{number}"), (), RunEnd(exit_code=0, seconds=1.0))
        with served(shown(history, tmp_path)) as serving:
            first, second = ask(serving.address).text, ask(f"{serving.address}?page=2").text
    assert (first.count('id="run-'), second.count('id="run-')) == (50, 2)
    assert ("older →" in first, "newer" in first) == (True, False)
    assert ("older →" in second, "newer" in second) == (False, True)


def test_a_run_leads_to_the_one_before_it(server):
    assert f'href="{server.root}/compare?a=1&amp;b=3"' in ask(f"{server.address}runs/3").text
    assert 'id="compare"' not in ask(f"{server.address}runs/1").text


def test_a_comparison_shows_the_words_that_differ(server):
    page = ask(f"{server.address}compare?a=1&b=3").text
    assert "1 instance differs" in page
    for pair in (("three", "five"), ("0.3", "0.7"), ("12", "14"), ("pocket", "fold")):
        assert f"<del>{pair[0]}</del>" in page
        assert f"<ins>{pair[1]}</ins>" in page
    assert page.count("<del>") == page.count("<ins>") == 4
    assert "9 the same" in page


def test_news_come_when_something_was_added(tmp_path):
    with History(tmp_path / "poeflow.db", warn=pytest.fail) as history:
        keep(history, run_record(), (), RunEnd(exit_code=0, seconds=1.0))
        seen = history.changes()
        with served(shown(history, tmp_path)) as serving:
            parts = urlsplit(serving.address)
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
            connection.request("GET", f"{parts.path}events?seen={seen}")
            answer = connection.getresponse()
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert answer.readline() + answer.readline() == b"retry: 2000\n\n"
            keep(history, run_record(), [asked("draft", "new")], None)
            assert answer.readline().startswith(b"id: ")
            told = answer.readline()
            assert told.startswith(b"data: ")
            assert int(told[6:]) > seen
        assert answer.read() == b"\n"  # the server has ended, and the stream with it
        connection.close()


def test_who_comes_back_hears_what_was_missed(server, history):
    parts = urlsplit(server.address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    now = history.changes()
    headers = {"Last-Event-ID": str(now - 1)}
    connection.request("GET", f"{parts.path}events?seen={now}", headers=headers)
    answer = connection.getresponse()
    lines = [answer.readline() for _ in range(4)]
    assert lines == [b"retry: 2000\n", b"\n", b"id: %d\n" % now, b"data: %d\n" % now]
    connection.close()


class Broken:
    """A history that cannot be read."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def runs(self, wanted):
        raise self._error

    def run(self, number):
        return RunRow(id=1, record=run_record())

    def instances(self, run):
        raise self._error

    requests = instances

    def changes(self):
        return 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DiskError("<b>x</b> is bad", hint="move it"), "&lt;b&gt;x&lt;/b&gt; is bad; move it"),
        (ZeroDivisionError("secret"), "This is a bug in poeflow (ZeroDivisionError)"),
    ],
)  # fmt: skip
def test_a_history_that_cannot_be_read_is_told(tmp_path, error, told):
    with served(shown(Broken(error), tmp_path)) as serving:
        answer = ask(serving.address)
        assert answer.status == 500
        assert told in answer.text
        assert "secret" not in answer.text


def test_an_empty_history_says_what_to_do(tmp_path):
    with (
        History(tmp_path / "poeflow.db", warn=pytest.fail) as history,
        served(shown(history, tmp_path)) as serving,
    ):
        assert "No run is stored yet." in ask(serving.address).text
        assert "No run fits." in ask(f"{serving.address}?text=x").text


def test_no_key_reaches_a_page(tmp_path):
    key = "sk_live_*a*_1234567"
    with History(tmp_path / "poeflow.db", warn=pytest.fail) as history:
        one = asked("draft", f"{key} `{key}`", reasoning=key)
        keep(history, run_record(inputs={"k": key}), [one], RunEnd(exit_code=0, seconds=1.0))
        records = ScrubbedRecords(history, Scrubber(Secret(key)))
        with served(shown(records, tmp_path)) as serving:
            for place in ("", "runs/1", "runs/1/1", "runs/1/1/text", "compare?a=1&b=1"):
                page = ask(serving.address + place).text
                assert "1234567" not in page
            assert ask(f"{serving.address}runs/1/1/text").text == "[key] `[key]`"


def test_requests_are_answered_side_by_side(server):
    """Many at once; each page is whole."""
    pages: list[str] = []
    threads = [
        threading.Thread(target=lambda: pages.append(ask(f"{server.address}runs/4").text))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pages) == 8
    assert set(pages) == {pages[0]}
    assert "all 260 of draft" in pages[0]
