"""What bots draw: asked for whole, fetched into a folder, kept, and handed on."""

import base64

import pytest

from poeflow.answers.media_links import edited_media
from poeflow.events import FileWritten

HEAD = "poeflow: 1\nsteps:\n"
DRAW = "  draw: {model: GPT-Image-1, prompt: an otter, output: {media: out/pictures}}\n"


def test_a_picture_is_fetched_into_the_folder_and_named_by_its_content(bench, tmp_path):
    outcome = bench.run(HEAD + DRAW)
    (path,) = outcome.results["draw"].media
    assert path.startswith("//out/pictures/")
    file = tmp_path / path[2:]
    assert file.suffix == ".png"
    assert file.read_bytes().startswith(b"\x89PNG")
    assert [e.path for e in bench.events if isinstance(e, FileWritten)] == [path[2:]]
    assert "stream" not in bench.simulator.requests[0].json


def test_it_comes_back_from_the_cache_when_it_is_deleted(bench, tmp_path):
    outcome = bench.run(HEAD + DRAW)
    file = tmp_path / outcome.results["draw"].media[0][2:]
    data = file.read_bytes()
    file.unlink()
    asked = len(bench.simulator.requests)
    bench.run(HEAD + DRAW)
    assert file.read_bytes() == data
    assert len(bench.simulator.requests) == asked


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_prompt_that_waits_for_a_picture_that_is_missing_is_unknown(bench, git, is_stored):
    see = "  see: {model: GPT-5.2, prompt: %s, attachments: [{from: steps.draw.media}]}\n"
    (path,) = bench.run(HEAD + DRAW + see % "describe").results["draw"].media
    bench.write(".gitignore", ".poeflow/\n")
    git("add", ".")
    git("commit", "-qm", "drawn")
    (bench.folder / path[2:]).unlink()
    if not is_stored:
        bench.forget_answers()
    found = {one.id: one for one in bench.statuses(HEAD + DRAW + see % "more")}
    assert [one.state for one in found.values()] == ["missing", "unknown"]
    assert found["see"].reasons == ("unknown until draw has run", "prompt changed")
    asked = [one for one in bench.simulator.requests if one.json]
    assert bench.run(HEAD + DRAW + see % "more").exit_code == 0
    assert len([one for one in bench.simulator.requests if one.json]) == len(asked) + 1


def test_what_was_drawn_is_attached_to_a_later_prompt(bench, tmp_path):
    outcome = bench.run(
        HEAD
        + DRAW
        + "  see: {model: GPT-5.2, prompt: describe, attachments: [{from: steps.draw.media}]}\n"
    )
    data = (tmp_path / outcome.results["draw"].media[0][2:]).read_bytes()
    chats = [request for request in bench.simulator.requests if request.json]
    parts = chats[-1].json["messages"][-1]["content"]
    assert parts[0] == {"type": "text", "text": "describe"}
    url = parts[1]["image_url"]["url"]
    assert base64.b64decode(url.partition(",")[2]) == data


def test_an_answer_without_media_fails_and_shows_what_came(bench, scripted):
    scripted("- {match: {text: otter}, answer: {text: I cannot draw otters.}}\n")
    outcome = bench.run(HEAD + DRAW)
    assert str(outcome.failures["draw"]) == (
        'the answer has no media: "I cannot draw otters."; ask for a picture'
    )


PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgAAACAAAB4iG8MwAAAABJRU5ErkJggg=="
)
SVG = base64.b64encode(b"<svg onload='alert(1)'></svg>").decode()


def test_a_picture_in_the_answer_itself_is_saved_beside_a_link_to_a_page(bench, scripted, tmp_path):
    answer = f"![a](data:image/png;base64,{PIXEL}) by https://evil.example/x"
    scripted(f"- {{match: {{text: otter}}, answer: {{text: '{answer}'}}}}\n")
    outcome = bench.run(HEAD + DRAW)
    (path,) = outcome.results["draw"].media
    assert (tmp_path / path[2:]).read_bytes() == base64.b64decode(PIXEL)


def test_what_it_holds_is_checked_as_if_it_were_fetched(bench, scripted):
    scripted(
        "- {match: {text: otter}, answer: {text: '"
        f"<think>data:image/png;base64,{PIXEL}</think> data:image/png;base64,{SVG}'}}}}\n"
    )
    outcome = bench.run(HEAD + DRAW)
    assert str(outcome.failures["draw"]) == (
        "the file the bot returned is SVG, which can hold script, which is not saved;"
        " pictures, films, sounds and PDF are; ask the bot for one"
    )


def test_media_from_elsewhere_is_not_fetched(bench, scripted):
    scripted("- {match: {text: otter}, answer: {text: 'https://evil.example/x.png'}}\n")
    outcome = bench.run(HEAD + DRAW)
    assert "evil.example" in str(outcome.failures["draw"])
    assert "media_hosts" in str(outcome.failures["draw"])


def test_an_accepted_picture_stays_when_its_answer_is_read_again(bench, tmp_path):
    outcome = bench.run(HEAD + DRAW)
    name = outcome.results["draw"].media[0][2:]
    own = (tmp_path / name).read_bytes()
    mine = base64.b64decode(PIXEL)
    bench.write(name, mine)
    assert bench.accept(HEAD + DRAW).paths == (f"//{name}",)
    judged = HEAD + DRAW.replace("otter,", "otter, expect: [{max_length: 9999}],")
    assert bench.run(judged).exit_code == 0
    assert (tmp_path / name).read_bytes() == mine
    assert bench.locked() == []
    bench.run(judged, force=True)
    assert (tmp_path / name).read_bytes() == own


SEE = "  see: {model: GPT-5.2, prompt: describe, attachments: [{from: %s}]}\n"


def test_an_accepted_picture_reaches_what_attaches_it(bench):
    flow = HEAD + DRAW + SEE % "steps.draw.media"
    name = bench.run(flow).results["draw"].media[0][2:]
    bench.write(name, base64.b64decode(PIXEL))
    bench.accept(flow)
    assert [state for state, _ in bench.states(flow).values()] == ["fresh", "stale"]
    assert bench.locked() == ["see: stale: steps.draw.media changed"]
    bench.run(flow)
    url = bench.simulator.requests[-1].json["messages"][-1]["content"][1]["image_url"]["url"]
    assert url.partition(",")[2] == PIXEL
    asked = len(bench.simulator.requests)
    assert bench.locked() == []
    bench.forget_answers()
    assert (bench.locked(), bench.run(flow).exit_code) == ([], 0)
    assert len(bench.simulator.requests) == asked


def test_an_accepted_picture_of_a_loop_reaches_what_attaches_it(bench):
    loop = DRAW.replace("{model", "{for_each: [x, y], model").replace("an otter", '"{{ item }}"')
    flow = HEAD + loop + SEE % "\"steps.draw['x'].media\""
    name = bench.run(flow).results["draw[x]"].media[0][2:]
    bench.write(name, base64.b64decode(PIXEL))
    bench.accept(flow)
    assert bench.states(flow)["see"][0] == "stale"
    bench.run(flow)
    assert bench.locked() == []


def test_an_accepted_picture_reaches_the_next_of_a_loop_in_order(bench):
    flow = HEAD + (
        "  draw: {for_each: {in: [x, y], carry: previous.media}, model: GPT-Image-1, "
        'prompt: "{{ item }}", attachments: [{from: "carry or []"}], output: {media: out}}\n'
    )
    name = bench.run(flow).results["draw[x]"].media[0][2:]
    bench.write(name, base64.b64decode(PIXEL))
    bench.accept(flow)
    assert [state for state, _ in bench.states(flow).values()] == ["fresh", "stale"]
    bench.run(flow)
    assert all("orphaned" in line for line in bench.locked())  # what y drew before


def test_the_lock_of_a_text_with_the_name_of_a_picture_stays_as_it_is():
    assert edited_media({"//out/0123456789abcdef.md": "0" * 22}) == ()


def test_an_accepted_picture_is_not_pruned_when_its_step_is_gone(bench):
    flow = HEAD + DRAW
    name = bench.run(flow).results["draw"].media[0][2:]
    bench.write(name, base64.b64decode(PIXEL))
    bench.accept(flow)
    bench.run(HEAD + "  say: {render: x}\n", prune_outputs=True)
    assert (bench.folder / name).read_bytes() == base64.b64decode(PIXEL)


LOOP = f"""{HEAD}\
  draw:
    for_each: [otter, owl]
    model: GPT-Image-1
    prompt: "an {{{{ item }}}}"
    output: {{media: out/pictures}}
  album: {{model: GPT-5.2, prompt: %s, attachments: [{{from: "%s"}}]}}
"""
MEDIA = "steps.draw.all | map(attribute='media') | flatten"
EACH, END = "{% for one in steps.draw.all %}", "{% endfor %}"
IF = "{% for one in steps.draw.all if "


def calls_in_clone(bench, flow: str) -> dict[str, int]:
    """Run a flow, change its prompt, and return the requests that a clone plans."""
    bench.write("more.md", "describe {{ steps.draw.all | map(attribute='text') | join }}")
    assert bench.run(flow).exit_code == 0
    bench.forget_answers()
    bench.write("more.md", "tell of {{ steps.draw.all | map(attribute='text') | join }}")
    return {one.id: one.calls for one in bench.statuses(flow.replace("describe", "tell of"))}


@pytest.mark.parametrize(
    ("prompt", "attached"),
    [
        ("describe", MEDIA),
        ("describe", f"{{{{ {MEDIA} }}}}"),
        (f'"describe {{{{ {MEDIA} | length }}}}, {{{{ steps.draw.status }}}}"', MEDIA),
        (f'"describe {EACH}{{{{ one.item }}}} {{{{ one.media[0] }}}} {END} one"', MEDIA),
        (f'"describe {IF}one.media %}}{{{{ loop.index }}}} {{{{ one.key }}}}{END}"', MEDIA),
        (f'"describe {EACH}{{{{ one.key }}}}{END} {EACH}{{{{ one.media[0] }}}}{END}"', MEDIA),
        ('"describe {{ steps.draw.all[0].media[0] }}"', MEDIA),
    ],
)
def test_a_clone_has_the_pictures_of_a_loop_in_their_files(bench, prompt, attached):
    flow = LOOP % (prompt, attached)
    assert calls_in_clone(bench, flow) == {"draw[otter]": 0, "draw[owl]": 0, "album": 1}
    before = bench.simulator.requests[-1].json["messages"][-1]["content"][1:]
    asked = len([one for one in bench.simulator.requests if one.json])
    assert bench.run(flow.replace("describe", "tell of")).exit_code == 0
    assert bench.simulator.requests[-1].json["messages"][-1]["content"][1:] == before
    assert len([one for one in bench.simulator.requests if one.json]) == asked + 1


@pytest.mark.parametrize(
    "prompt",
    [
        '"describe {{ steps.draw.all | length }}"',
        "\"describe {{ steps.draw.all | map(attribute='text') | join }}\"",
        "\"describe {% set all = steps.draw.all %}{{ all | map(attribute='text') | join }}\"",
        '"describe {{ steps.draw.all[0].text }}"',
        "\"describe {{ steps.draw['otter'].text }}\"",
        f'"describe {EACH}{{{{ one.text }}}}{END}"',
        f'"describe {EACH}{{{{ one.key }}}}{END} {EACH}{{{{ one | tojson }}}}{END}"',
        f"\"describe {EACH}{{{{ one['text'] }}}}{END}\"",
        f'"describe {EACH}{{% set two = one %}}{{{{ two.text }}}}{END}"',
        f'"describe {EACH}{{{{ loop.previtem.text if not loop.first }}}}{END}"',
        f"\"describe {EACH}{{{{ loop['nextitem'].text if not loop.last }}}}{END}\"",
        f'"describe {IF}one.text %}}{{{{ one.key }}}}{END}"',
        f"\"describe {EACH}{{{{ one.media[0] ~ '}}}}' ~ one.text }}}}{END}\"",
        f"\"describe {EACH}{{{{ one.media[0] ~ '%}}' ~ one.text }}}}{END}\"",
        '"describe {% for one in steps.draw.all | reverse %}{{ one.text }}{% endfor %}"',
        '"describe {{ steps.draw.all[0].text }} {{ steps.draw.all[0].media[0] }}"',
        "\"describe {% include 'more.md' %}\"",
        "{file: more.md}",
    ],
)
def test_whoever_may_read_more_of_them_has_them_drawn_again(bench, prompt):
    found = calls_in_clone(bench, LOOP % (prompt, MEDIA))
    assert found == {"draw[otter]": 1, "draw[owl]": 1, "album": 0}
