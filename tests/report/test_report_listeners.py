"""JSON Lines hold each event whole, whatever it says; without the key where that is asked."""

import base64
import html
import io
import json
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_events import ENDED, KINDS, OUTSIDE, FakeClock, every_event, telling

from poeflow import events
from poeflow.redact import MASK, Scrubber, Secret
from poeflow.report.listeners import JsonLines, scrubbed
from poeflow.report.log import PlainReport

KEY = "canary-key-0123456789"
ODD = 'canary/key+<"0123456789'
SPELLED = [
    ODD,
    quote(ODD, safe=""),
    json.dumps(ODD)[1:-1],
    html.escape(ODD),
    *(base64.b64encode(before + ODD.encode()).decode() for before in (b"", b"x", b"xy")),
    base64.urlsafe_b64encode(ODD.encode("utf-16-le")).decode(),
]


def written(*happened: events.Event) -> str:
    stream = io.StringIO()
    for event in happened:
        JsonLines(stream)(event)
    return stream.getvalue()


@given(every_event())
def test_every_event_comes_back_as_it_was(event):
    line = written(event)
    assert msgspec.convert(json.loads(line), events.Event) == event
    assert line.isascii()
    assert line.count("\n") == 1


def test_a_line_is_written_out_at_once():
    class Pipe(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed = self.tell()

    pipe = Pipe()
    JsonLines(pipe)(events.TextArrived(at=0, step="a", text="x"))
    assert pipe.flushed == pipe.tell() > 0


def test_what_json_cannot_hold_is_an_error_and_no_broken_line():
    stream = io.StringIO()
    with pytest.raises(ValueError):
        JsonLines(stream)(events.TextArrived(at=float("nan"), step="a", text="x"))
    assert stream.getvalue() == ""


class TestScrubbed:
    @pytest.mark.parametrize("kind", OUTSIDE, ids=lambda kind: kind.__name__)
    @pytest.mark.parametrize("is_plain", [False, True])
    def test_no_report_tells_the_key(self, kind, is_plain):
        stream = io.StringIO()
        report = PlainReport(stream, FakeClock()) if is_plain else JsonLines(stream)
        listen = scrubbed(report, Scrubber(Secret(KEY)))
        listen(telling(kind, f"you sent {KEY}!"))
        listen(ENDED)
        assert KEY not in stream.getvalue()
        if not (is_plain and kind is events.TextArrived):  # plain shows no answers
            assert f"you sent {MASK}!" in stream.getvalue()

    def test_results_are_masked_at_every_depth(self):
        heard: list[events.Event] = []
        finished = {
            "at": 1.0, "exit_code": 0, "asked": 1, "cached": 0, "rendered": 0, "failed": 0,
            "skipped": 0, "seconds": 1.0, "simulated": False,
        }  # fmt: skip
        listen = scrubbed(heard.append, Scrubber(Secret(KEY)))
        listen(events.RunFinished(**finished, outputs={"a": {KEY: [1, None, f"<{KEY}>"]}}))
        masked = {"a": {MASK: [1, None, f"<{MASK}>"]}}
        assert heard == [events.RunFinished(**finished, outputs=masked)]

    @given(every_event())
    def test_what_holds_no_key_is_handed_on_as_it_is(self, event):
        heard: list[events.Event] = []
        scrubber = Scrubber(Secret(KEY))
        listen = scrubbed(heard.append, scrubber)
        listen(event)
        if isinstance(event, events.TextArrived) and scrubber.begun(event.text):
            listen(events.StepStarted(at=1.0, step=event.step, model=None))
            told = [one.text for one in heard if isinstance(one, events.TextArrived)]
            assert "".join(told) == event.text
        else:
            assert heard[0] is event

    @given(st.lists(st.sampled_from(["a ", KEY, KEY[:3], KEY[3:], KEY[:9], "c", "\n"]), max_size=9))
    def test_a_key_in_pieces_is_masked(self, pieces):
        heard: list[events.Event] = []
        listen = scrubbed(heard.append, Scrubber(Secret(KEY)))
        for piece in pieces:
            listen(events.TextArrived(at=0.0, step="a", text=piece))
            listen(events.TextArrived(at=0.0, step="b", text="other"))
        ended = events.StepFailed(at=1.0, step="a", message="no", error_class="failed", seconds=1.0)
        listen(ended)
        told = "".join(
            one.text for one in heard if isinstance(one, events.TextArrived) and one.step == "a"
        )
        assert told == Scrubber(Secret(KEY)).scrub("".join(pieces))
        assert heard[-1] is ended

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 50])
    @pytest.mark.parametrize("spelled", SPELLED)
    def test_an_encoded_key_in_pieces_is_masked(self, spelled, size):
        heard: list[events.TextArrived] = []
        listen = scrubbed(heard.append, Scrubber(Secret(ODD)))
        text = f"it is {spelled} so"
        for at in range(0, len(text), size):
            listen(events.TextArrived(at=0.0, step="a", text=text[at : at + size]))
        told = "".join(one.text for one in heard)
        whole = Scrubber(Secret(ODD)).scrub(text)
        assert (told.count(MASK), whole.count(MASK)) == (1, 1)
        assert len(told) <= len(whole) + 3, "a few characters before it are passed on"
        assert all(spelled[at : at + 9] not in told for at in range(len(spelled) - 9))


def test_the_kinds_told_apart_here_are_all_there_are():
    assert {kind.__struct_config__.tag for kind in KINDS} == {
        "expected", "fell_back", "file_written", "request_sent", "retry_planned", "run_finished",
        "run_estimated", "run_started", "step_expanded", "step_failed", "step_finished",
        "step_skipped", "step_started",
        "text_arrived", "tool_called", "warned",
    }  # fmt: skip


def test_names_without_a_key_are_heard_as_often_as_they_come_and_a_key_never():
    heard: list[events.Event] = []
    listen = scrubbed(heard.append, Scrubber(Secret(KEY)))
    named = events.StepStarted(at=1.0, step="say[1]", model="GPT-5.2")
    asked = events.RequestSent(at=2.0, step="say[1]", model="GPT-5.2")
    warned = events.Warned(at=3.0, step="say[1]", message=f"it said {KEY}")
    for event in (named, asked, warned, named, warned):
        listen(event)
    masked = events.Warned(at=3.0, step="say[1]", message=f"it said {MASK}")
    assert heard == [named, asked, masked, named, masked]
