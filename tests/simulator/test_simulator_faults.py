import msgspec
import pytest
from simulator_desk import Desk, body_of

from poeflow.errors import UsageError
from poeflow.simulator.faults import KINDS, FaultRecipe, Faults, read_recipes

SHAPE = "write KIND[=VALUE][xTIMES][/EVERY], for example 429x2 or cut=200"


def test_recipes_are_read():
    assert read_recipes("429=0x2, cut=200/10,slow=0.5,302") == (
        FaultRecipe(kind="429", value=0.0, times=2),
        FaultRecipe(kind="cut", value=200.0, every=10),
        FaultRecipe(kind="slow", value=0.5),
        FaultRecipe(kind="302"),
    )
    assert read_recipes(" ,") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stal", 'unknown fault "stal"; did you mean "stall"?'),
        ("399", f'unknown fault "399"; known: a status from 400, {", ".join(KINDS)}'),
        (
            "429y2",
            f'"429y2" is not a fault recipe; {SHAPE}',
        ),
        ("500/0", '"500/0": EVERY must be at least 1; write /1 or more'),
        ("html=302", '"html=302": 302 is not a status; write 200, or 400 to 599'),
        ("error-event=42", '"error-event=42": 42 is not a status; write 200, or 400 to 599'),
    ],
)
def test_recipes_that_are_none(text, message):
    with pytest.raises(UsageError) as caught:
        read_recipes(text)
    assert str(caught.value) == message


def test_times_count_for_each_request_and_every_for_all():
    faults = Faults(read_recipes("429x2,500/3"))
    met = [faults.next(seed) for seed in ("a", "a", "b", "a", "a", "b", "a")]
    kinds = [recipe.kind if recipe else None for recipe in met]
    assert kinds == ["429", "429", "429", None, None, "429", "500"]


def test_refused_twice_and_then_fine():
    desk = Desk(recipes=read_recipes("429=0.5x2"))
    replies = [desk.ask() for _ in range(3)]
    assert [reply.status for reply in replies] == [429, 429, 200]
    assert [dict(reply.headers).get("retry-after") for reply in replies] == ["0.5", "0.5", None]
    assert desk.ask("something else").status == 429


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (402, "insufficient_credits"),
        (403, "moderation_error"),
        (408, "timeout_error"),
        (500, "provider_error"),
        (502, "upstream_error"),
        (529, "overloaded_error"),
    ],
)
def test_a_status_has_its_documented_type(status, kind):
    reply = Desk(profile="legacy", recipes=read_recipes(str(status))).ask()
    assert (reply.status, body_of(reply)["error"]["type"]) == (status, kind)


def test_a_redirect_leads_elsewhere():
    reply = Desk(recipes=read_recipes("302")).ask()
    location = dict(reply.headers)["location"]
    assert (reply.status, location) == (302, "https://example.com/v1/chat/completions")


def spoilt(recipe: str, *, stream: bool):
    """Return what goes out with the recipe and without."""
    fine, bad = Desk(profile="legacy"), Desk(profile="legacy", recipes=read_recipes(recipe))
    return bad.ask(stream=stream), fine.ask(stream=stream)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ending", ["cut", "stall"])
def test_cut_and_stall_keep_the_first_bytes(stream, ending):
    bad, fine = spoilt(f"{ending}=100", stream=stream)
    sent = b"".join(part.data for part in bad.segments)
    whole = b"".join(part.data for part in fine.segments)
    assert sent == whole[:100]
    assert bad.ending == ending
    assert dict(bad.headers).get("content-length") == dict(fine.headers).get("content-length")


def test_cut_without_a_number_keeps_half_and_never_all():
    half, fine = spoilt("cut", stream=False)
    most, _ = spoilt("cut=999999", stream=False)
    size = len(fine.segments[0].data)
    assert len(half.segments[0].data) == size // 2
    assert len(most.segments[0].data) == size - 1


def test_malformed_json_is_well_framed():
    bad, fine = spoilt("malformed", stream=False)
    data = bad.segments[0].data
    assert dict(bad.headers)["content-length"] == str(len(data))
    assert fine.segments[0].data.startswith(data)
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(data)


def test_one_malformed_event_stands_in_a_good_stream():
    bad, fine = spoilt("malformed", stream=True)
    differing = [
        (one.data, other.data)
        for one, other in zip(bad.segments, fine.segments, strict=True)
        if one != other
    ]
    assert len(differing) == 1
    broken, good = differing[0]
    assert broken.endswith(b"\n\n")
    assert good.startswith(broken[:-2])


def test_an_error_inside_a_good_answer():
    streamed, fine = spoilt("error-event=529", stream=True)
    whole, _ = spoilt("error-event", stream=False)
    half = len(fine.segments) // 2
    assert streamed.segments[:half] == fine.segments[:half]
    assert b'data: {"error":{"code":529,"type":"overloaded_error"' in streamed.segments[-1].data
    assert streamed.ending == "complete"
    assert (whole.status, body_of(whole)["error"]["type"]) == (200, "provider_error")


def test_a_web_page_in_place_of_json():
    page, _ = spoilt("html", stream=True)
    blocked, _ = spoilt("html=503", stream=False)
    assert (page.status, dict(page.headers)["content-type"]) == (200, "text/html")
    assert page.segments[0].data.startswith(b"<!doctype html>")
    assert blocked.status == 503


def test_streams_that_end_without_the_last_words():
    no_done, fine = spoilt("no-done", stream=True)
    no_finish, _ = spoilt("no-finish", stream=True)
    assert no_done.segments == fine.segments[:-1]
    assert no_finish.segments == fine.segments[:-2]
    assert b'"finish_reason":"stop"' in fine.segments[-2].data
    whole, usual = spoilt("no-finish", stream=False)
    assert whole.segments == usual.segments


def test_slow_answers_say_the_same():
    for stream in (False, True):
        slow, fine = spoilt("slow=0.3", stream=stream)
        said = b"".join(part.data for part in slow.segments)
        assert said == b"".join(part.data for part in fine.segments)
        assert len(slow.segments) >= 8
        assert {part.wait for part in slow.segments} == {0.3}


def test_pings_are_comments_and_nothing_else():
    pings, _ = spoilt("ping=2", stream=True)
    assert {(part.data, part.wait) for part in pings.segments} == {(b": ping\n\n", 2.0)}


def test_an_empty_answer_has_all_its_text_as_reasoning():
    bad, fine = (body_of(reply)["choices"][0]["message"] for reply in spoilt("empty", stream=False))
    assert bad["content"] == ""
    assert bad["reasoning_content"] == fine["content"]


def test_stall_and_reset_without_a_byte():
    assert spoilt("stall", stream=True)[0].ending == "silent"
    assert spoilt("reset", stream=True)[0].ending == "reset"


def test_latency_is_kept_by_what_goes_wrong():
    for recipe in ("500", "html", "malformed", "error-event", "cut"):
        assert Desk(latency=2.0, recipes=read_recipes(recipe)).ask().wait == 2.0
