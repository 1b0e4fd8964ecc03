"""A run as one file: all of it there, nothing in it that runs or is fetched."""

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser

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
    sent,
    shown,
)

from poeflow.cli.commands.report import html_report
from poeflow.cli.run_arguments import with_result
from poeflow.digest import sha256_of
from poeflow.records import InstanceRecord, RunEnd
from poeflow.redact import Scrubber, Secret
from poeflow.report.history import instance_lines
from poeflow.store.history import History


@pytest.fixture
def history(tmp_path):
    (tmp_path / ".poeflow").mkdir()
    with History(tmp_path / ".poeflow/poeflow.db", warn=pytest.fail) as made:
        yield made


def page_of(history, folder, number: int = 1, **more) -> str:
    row = history.run(number)
    return b"".join(html_report(row, shown(history, folder, **more))).decode()


class Seen(HTMLParser):
    """Notes every tag, and every address that is fetched or followed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.fetched: list[str] = []
        self.followed: list[str] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "src":
                self.fetched.append(value)
            elif name == "href":
                self.followed.append(value)
            elif name == "id":
                self.ids.append(value)


def test_a_report_holds_everything_and_fetches_nothing(history, tmp_path):
    good_run(history, tmp_path)
    page = page_of(history, tmp_path)
    seen = Seen(page)
    assert not seen.tags & {"script", "link", "iframe", "object", "form", "base"}
    assert not {name for name in seen.attributes if name == "style" or name.startswith("on")}
    pictures = [
        f"data:image/png;base64,{base64.b64encode(data).decode()}"
        for data in (png(), png(90), png(90))
    ]
    assert seen.fetched == pictures
    inner = [one[1:] for one in seen.followed if one.startswith("#")]
    assert set(inner) <= set(seen.ids)
    assert len(seen.ids) == len(set(seen.ids))
    assert [one for one in seen.followed if not one.startswith("#")] == [
        "https://pfst.example/otter.png"
    ]
    for text in (
        "<h2>Otters in spring</h2>",
        "Be exact; name numbers.",
        "paper.pdf",
        "429 too many",
        "The picture shows an otter.",
        "$0.0213",
        "4f2c9a1b",
        "chatcmpl-1",
        "2026-09-21 14:13:20 UTC",
    ):
        assert text in page


def test_only_its_own_style_is_allowed(history, tmp_path):
    good_run(history, tmp_path)
    page = page_of(history, tmp_path)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert page.index("<meta http-equiv") < page.index("<style>")


def test_hostile_answers_are_text(history, tmp_path):
    bad_run(history)
    page = page_of(history, tmp_path)
    seen = Seen(page)
    assert not seen.tags & {"script", "img", "object"}
    assert page.count("</style>") == page.count("</html>") == 1
    assert page.count("</title>") == 1 + 5  # of the page, and of each step in the picture
    assert "&lt;script&gt;window.__hacked = 1&lt;/script&gt;" in page
    assert {one for one in seen.followed if not one.startswith("#")} == {
        "https://evil.example/leak.png?q=secret", "https://example.org/?a=1&b=2",
    }  # fmt: skip
    assert "\\ud83d half" in page
    assert HOSTILE not in page


def test_the_same_run_gives_the_same_bytes(history, tmp_path):
    good_run(history, tmp_path)
    assert page_of(history, tmp_path) == page_of(history, tmp_path)


def test_every_instance_of_a_large_run_is_there(history, tmp_path):
    large_run(history, 300)
    page = page_of(history, tmp_path)
    assert page.count('<details class="instance">') == 300
    assert [n for n in (0, 150, 299) if f"Answer number {n}. " in page] == [0, 150, 299]


def test_raw_requests_are_left_out_where_there_is_no_room(history, tmp_path):
    big = asked("draft", "the answer", request={"body": {"model": "A", "user": "y" * 150_000}})
    keep(history, run_record(steps={}), [big], RunEnd(exit_code=0, seconds=1.0), [sent(big)] * 40)
    page = page_of(history, tmp_path)
    assert 20 < page.count("request as JSON") < 30
    assert page.count("sent 0.2 s into the run") == 40


def test_an_earlier_result_stands_for_what_was_current(history, tmp_path):
    made = asked("draft", "what was made")
    current = InstanceRecord(id="draft", step="draft", status="ok", fingerprint=made.fingerprint)
    for one in (made, current):
        keep(history, run_record(steps={}), [one], RunEnd(exit_code=0, seconds=1.0))
    alone = page_of(history, tmp_path, 2)
    assert "what was made" not in alone
    assert "Nothing had to be done: the lock proves that the result is current." in alone
    whole = page_of(history, tmp_path, 2, completed=lambda one: with_result(history, one))
    assert "<p>what was made</p>" in whole
    assert "An earlier run made it." in whole


def poeflow(folder, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "poeflow.cli.start", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=50,
        env={"PATH": "/usr/bin:/bin", **environ},
    )  # fmt: skip


def test_the_command_writes_the_last_run(history, tmp_path):
    (tmp_path / "poeflow.toml").touch()
    good_run(history, tmp_path)
    keep(
        history, run_record("late"), [asked("draft", "my key is key-12345678 ok")],
        RunEnd(exit_code=0, seconds=1.0),
    )  # fmt: skip
    done = poeflow(tmp_path, "report", "last", "--html", "run.html", POE_API_KEY="key-12345678")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = (tmp_path / "run.html").read_text("utf-8")
    assert "<title>run 2, late · poeflow</title>" in page
    assert "my key is [key] ok" in page
    assert "12345678" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("9", "--html", "a.html"), 'error: there is no run "9"'),
        (
            ("1/draft", "--html", "a.html"),
            "error: 1/draft names an instance\n  report all of run 1",
        ),
        (("last",), "error: missing option '--html'"),
    ],
)
def test_the_command_says_what_it_needs(history, tmp_path, arguments, message):
    (tmp_path / "poeflow.toml").touch()
    keep(history, run_record(), [asked("draft", "a")], RunEnd(exit_code=0, seconds=1.0))
    done = poeflow(tmp_path, "report", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)


def test_a_file_that_is_no_picture_is_not_taken_along(history, tmp_path):
    for name, data in (("a.svg", b"<svg onload=x>"), ("b.png", b"<html>"), ("c.png", png(7))):
        (tmp_path / name).write_bytes(data)
    files = {f"//{n}": sha256_of((tmp_path / n).read_bytes()) for n in ("a.svg", "b.png", "c.png")}
    (tmp_path / "c.png").write_bytes(png(8))  # changed since
    one = asked("draft", "![a](a.svg) ![b](b.png) ![c](c.png)", files=files)
    keep(history, run_record(steps={}), [one], RunEnd(exit_code=0, seconds=1.0))
    assert Seen(page_of(history, tmp_path)).fetched == []


def test_a_key_that_markdown_decodes_is_masked(history, tmp_path):
    key = 'canary<key>"&0123456789'
    spelled = "".join(f"&#x{ord(one):x};" for one in key)
    one = asked("draft", f"# Mine\n\nit is {spelled}, and `{key}` too")
    keep(history, run_record(steps={}), [one], RunEnd(exit_code=0, seconds=1.0))
    page = page_of(history, tmp_path, scrubber=Scrubber(Secret(key)))
    assert ("it is [key], and" in page, "canary" in page) == (True, False)


def test_data_without_a_text_is_no_fault(history, tmp_path):
    one = InstanceRecord(id="draft", step="draft", status="ok", data={"a": 1})
    recorder = history.begin(run_record())
    recorder.instance(one)
    recorder.ended(RunEnd(exit_code=0, seconds=1.0))
    assert "Nothing had to be done" in page_of(history, tmp_path)


JUDGED = (
    {"kind": "contains", "passed": True, "level": "score", "message": "has it", "weight": 3},
    {"kind": "judge", "passed": False, "level": "warn", "message": "dull", "score": 0.25},
    {"kind": "min_length", "passed": True, "level": "error", "message": "long"},
    {"kind": "x", "passed": False, "level": "warn", "message": "odd", "score": "<b>", "weight": []},
)


def test_scores_and_weights_stand_beside_the_verdicts(history, tmp_path):
    one = asked("draft", "text", verdicts=JUDGED[:3])
    other = asked("plain", "text", verdicts=JUDGED[2:])
    keep(history, run_record(), [one, other], RunEnd(seconds=1, exit_code=0), [])
    page = page_of(history, tmp_path)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "met has it (weight 3)" in text
    assert "not met dull (score 0.25) (a warning)" in text
    assert "met long not met" in text, "what has no score of its own has none beside it"
    assert re.findall(r"<dt>score</dt>\s*<dd[^>]*>([^<]*)<", page) == ["0.85"]


def test_the_terminal_shows_them_too():
    shown_lines = instance_lines(asked("draft", "text", verdicts=JUDGED), [])
    lines = [line[0][0] for line in shown_lines if line]
    assert lines[-5:] == [
        "as expected: has it (weight 3)",
        "not as expected: dull (score 0.25)",
        "as expected: long",
        "not as expected: odd",
        "score 0.85",
    ]


def test_a_run_that_was_stopped_says_why(history, tmp_path):
    end = RunEnd(exit_code=5, seconds=1.0, reason="there is no <key>")
    keep(history, run_record(steps={}), [], end)
    assert '<p class="note">there is no &lt;key&gt;</p>' in page_of(history, tmp_path)
