"""Files with accepted edits when their step changes: the bytes of a person stay the person's."""

import base64

import pytest

from poeflow.events import Warned

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  write: {prompt: write, output: {save: out/text.md}}
  read: {prompt: "read {{ steps.write.text }}"}
"""
RENAMED = FLOW.replace("write:", "wrote:").replace("steps.write", "steps.wrote")
SKIPPED = """\
poeflow: 1
steps:
  write: {if: "false", model: GPT-5.2, prompt: write, output: {save: out/text.md}}
"""
OTHER = "poeflow: 1\nsteps:\n  other: {render: other}\n"
MINE = "my own words\n"
EDITED = "//out/text.md was edited since poeflow wrote it"
KEEP = "; keep it with `poeflow accept`, or replace it with --force"


@pytest.fixture
def accepted(bench):
    assert bench.run(FLOW).exit_code == 0
    bench.write("out/text.md", MINE)
    assert bench.accept(FLOW).paths == ("//out/text.md",)
    assert bench.run(FLOW).exit_code == 0
    return bench


def text(bench) -> str:
    return (bench.folder / "out/text.md").read_text()


def warnings(bench) -> list[str]:
    return [event.message for event in bench.events if isinstance(event, Warned)]


@pytest.mark.parametrize("prunes", [False, True])
def test_a_step_by_another_name_leaves_it_and_says_how_to_keep_it(accepted, prunes):
    asked = len(accepted.prompts())
    for _ in range(3):
        assert accepted.states(RENAMED)["wrote"] == ("edited", (EDITED,))
        outcome = accepted.run(RENAMED, prune_outputs=prunes)
        assert str(outcome.failures["wrote"]) == EDITED + KEEP
        assert (text(accepted), warnings(accepted)) == (MINE, [])
    assert accepted.accept(RENAMED).paths == ("//out/text.md",)
    outcome = accepted.run(RENAMED, prune_outputs=prunes)
    assert (outcome.exit_code, warnings(accepted)) == (0, [])
    assert (text(accepted), accepted.locked(), len(accepted.prompts())) == (MINE, [], asked)


def test_in_a_clone_it_stays_though_no_ledger_knows_it(accepted):
    accepted.forget_answers()
    accepted.run(RENAMED)
    accepted.forget_answers()
    outcome = accepted.run(RENAMED)
    assert outcome.failures["wrote"].message == EDITED
    assert text(accepted) == MINE
    assert accepted.accept(RENAMED, "out/text.md").paths == ("//out/text.md",)
    assert accepted.run(RENAMED).exit_code == 0
    assert (text(accepted), accepted.locked()) == (MINE, [])


@pytest.mark.parametrize("prunes", [False, True])
@pytest.mark.parametrize("without", [OTHER, SKIPPED], ids=["gone", "skipped"])
def test_a_step_that_comes_back_does_not_replace_it(accepted, without, prunes):
    assert all(state != "orphaned" for state, _ in accepted.states(without).values())
    assert accepted.run(without, prune_outputs=prunes).exit_code == 0
    assert (text(accepted), warnings(accepted)) == (MINE, [LEFT])
    assert accepted.run(without, prune_outputs=prunes).exit_code == 0
    assert (text(accepted), warnings(accepted), accepted.locked()) == (MINE, [], [])
    outcome = accepted.run(FLOW)
    assert str(outcome.failures["write"]) == EDITED + KEEP
    assert text(accepted) == MINE


LEFT = "out/text.md: no step writes it any more; it was edited by hand, so it stays, and is yours"
ROWS = """\
poeflow: 1
steps:
  say:
    for_each: {in: [x, y, z]}
    render: "say {{ item }}"
    output: {save: "out/{{ key }}.md"}
"""


@pytest.mark.parametrize("fewer", ["{in: [x, y, z], limit: 1}", "[x, y]"])
def test_a_row_that_comes_back_does_not_replace_it(bench, fewer):
    bench.run(ROWS)
    bench.write("out/z.md", MINE)
    assert bench.accept(ROWS).paths == ("//out/z.md",)
    bench.run(ROWS.replace("{in: [x, y, z]}", fewer), prune_outputs=True)
    outcome = bench.run(ROWS)
    assert list(outcome.failures) == ["say[z]"]
    assert (bench.folder / "out/z.md").read_text() == MINE
    assert bench.accept(ROWS).paths == ("//out/z.md",)
    assert bench.run(ROWS).exit_code == 0
    assert ((bench.folder / "out/z.md").read_text(), bench.locked()) == (MINE, [])


def test_what_poeflow_wrote_before_the_edit_is_still_its_own(accepted):
    accepted.forget_answers()
    accepted.run(FLOW, force=True)
    own = text(accepted)
    accepted.write("out/text.md", MINE)
    accepted.accept(FLOW)
    accepted.write("out/text.md", own)
    accepted.forget_answers()
    accepted.run(OTHER, prune_outputs=True)
    assert warnings(accepted) == ["out/text.md was removed, as no step writes it any more"]
    assert not (accepted.folder / "out/text.md").exists()


def test_a_file_left_behind_can_be_accepted_for_the_step_that_is_to_write_it(bench):
    bench.run(FLOW)
    own = text(bench)
    bench.run(OTHER)
    changed = RENAMED.replace("prompt: write", "prompt: write more")
    assert bench.accept(changed, "out/text.md").paths == ("//out/text.md",)
    assert bench.run(changed).exit_code == 0
    assert (text(bench), warnings(bench), bench.locked()) == (own, [], [])
    assert "write more" not in bench.prompts()


def test_what_was_given_up_once_is_a_persons_again_afterwards(accepted):
    accepted.accept(FLOW, drop=True)
    assert accepted.accept(FLOW, "out/text.md", drop=True).paths == ()
    assert accepted.run(FLOW).exit_code == 0
    assert text(accepted) != MINE
    accepted.write("out/text.md", MINE)
    for with_state in (True, False):
        if not with_state:
            accepted.forget_answers()
        assert accepted.states(FLOW)["write"] == ("edited", ("out/text.md was edited",))
        assert accepted.run(FLOW).exit_code == 0
        assert text(accepted) == MINE


def test_what_was_given_up_stays_so_until_an_answer_replaces_it(accepted, scripted):
    changed = FLOW.replace("prompt: write", "prompt: write more")
    accepted.accept(changed, drop=True)
    accepted.run(changed, steps=("read",), only=True)
    scripted("- {match: {text: write more}, answer: {error: {status: 400, message: no}}}\n")
    assert accepted.run(changed, prune_outputs=True).failures["write"].message == "no (400)"
    assert (text(accepted), warnings(accepted)) == (MINE, [])
    scripted("- {match: {text: write more}, answer: {text: written}}\n")
    assert accepted.run(changed).exit_code == 0
    assert text(accepted) == "written\n"
    assert accepted.locked() == []
    assert "orphans" not in (accepted.folder / "a.lock.json").read_text()


def test_what_was_given_up_can_be_accepted_again(accepted):
    accepted.accept(FLOW, drop=True)
    assert accepted.accept(FLOW, "out/text.md").paths == ("//out/text.md",)
    assert accepted.run(FLOW).exit_code == 0
    assert (text(accepted), accepted.locked()) == (MINE, [])


MOVED = FLOW.replace("out/text.md", "out/brief.md")
MORE = MOVED.replace("prompt: write", "prompt: write more")
COPIED = "out/text.md was edited by hand and stays; its text is in out/brief.md, too"


def brief(bench) -> str:
    return (bench.folder / "out/brief.md").read_text()


@pytest.mark.parametrize("with_state", [True, False])
def test_a_new_path_gets_the_accepted_text_without_a_request(accepted, with_state):
    asked = len(accepted.prompts())
    if not with_state:
        accepted.forget_answers()
    assert accepted.states(MOVED)["write"] == (
        "stale",
        ("output changed", "it writes out/brief.md now", "kept: edited by hand"),
    )
    assert accepted.locked() == [
        "write: stale: output changed; it writes out/brief.md now; kept: edited by hand"
    ]
    assert not (accepted.folder / "out/brief.md").exists(), "a look writes nothing"
    outcome = accepted.run(MOVED)
    assert (outcome.exit_code, warnings(accepted)[0]) == (0, COPIED)
    assert (text(accepted), brief(accepted)) == (MINE, MINE)
    assert LEFT not in warnings(accepted), "its step has a copy of it"
    assert (accepted.locked(), len(accepted.prompts())) == ([], asked)
    assert accepted.run(MOVED, prune_outputs=True).exit_code == 0
    assert (text(accepted), brief(accepted)) == (MINE, MINE)
    assert all(message.startswith("read is current") for message in warnings(accepted))


def test_at_its_new_path_it_stays_a_persons(accepted):
    accepted.run(MOVED)
    accepted.run(OTHER, prune_outputs=True)
    assert (text(accepted), brief(accepted)) == (MINE, MINE)
    assert list(accepted.run(MOVED).failures) == ["write"]
    assert brief(accepted) == MINE
    accepted.accept(MOVED)
    assert accepted.accept(MOVED, drop=True).paths == ("//out/brief.md",)
    outcome = accepted.run(MOVED)
    assert brief(accepted) == outcome.results["write"].text + "\n"
    assert text(accepted) == MINE


def test_a_new_path_and_a_new_request_keep_it_until_it_is_accepted_again(accepted):
    refused = {
        "//out/text.md": "its step saves to out/brief.md now; run the flow, which copies it there, "
        "then accept it"
    }
    assert accepted.accept(MORE).refused == refused
    assert accepted.run(MORE).exit_code == 0
    assert brief(accepted) == MINE
    assert accepted.states(MORE)["write"] == (
        "stale",
        ("output changed", "prompt changed", "kept: edited by hand"),
    )
    assert accepted.accept(MORE).paths == ("//out/brief.md",)
    assert accepted.locked() == []
    assert "write more" not in accepted.prompts()


def test_at_its_new_path_no_other_file_is_replaced(accepted):
    accepted.write("out/brief.md", "another person's\n")
    message = "//out/brief.md is there, and poeflow did not write it"
    assert accepted.run(MOVED).failures["write"].message == message
    assert (text(accepted), brief(accepted)) == (MINE, "another person's\n")


def test_a_file_that_its_user_moved_can_be_accepted_there(accepted):
    (accepted.folder / "out/text.md").rename(accepted.folder / "out/brief.md")
    assert list(accepted.run(MOVED).failures) == ["write"]
    assert accepted.accept(MOVED).paths == ("//out/brief.md",)
    assert accepted.locked() == []
    assert accepted.run(MOVED, prune_outputs=True).exit_code == 0
    assert (brief(accepted), warnings(accepted)) == (MINE, [])


def test_an_answer_is_merged_into_it_at_its_new_path(bench, scripted, git):
    scripted("""\
        - {match: {text: more}, answer: {text: "1\\n2\\n3\\n4\\nnew"}}
        - {match: {text: write}, answer: {text: "1\\n2\\n3\\n4\\n5"}}
    """)
    bench.run(FLOW)
    bench.write("out/text.md", "mine\n2\n3\n4\n5\n")
    bench.accept(FLOW)
    assert bench.run(MORE, merge_edits=True).exit_code == 0
    assert brief(bench) == "mine\n2\n3\n4\nnew\n"
    assert text(bench) == "mine\n2\n3\n4\n5\n"
    assert bench.locked() == []


PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgAAACAAAB4iG8MwAAAABJRU5ErkJggg=="
)
DRAW = "poeflow: 1\nsteps:\n  draw: {model: GPT-Image-1, prompt: otter, output: {media: out}}\n"


def test_an_accepted_picture_is_not_pruned_and_not_replaced(bench):
    path = bench.run(DRAW).results["draw"].media[0][2:]
    bench.write(path, PIXEL)
    assert bench.accept(DRAW).paths == (f"//{path}",)
    for _ in range(2):
        bench.run(OTHER, prune_outputs=True)
        assert (bench.folder / path).read_bytes() == PIXEL
    assert bench.run(DRAW).exit_code == 0
    assert ((bench.folder / path).read_bytes(), bench.locked()) == (PIXEL, [])


def test_a_picture_that_nobody_edited_is_pruned(bench):
    path = bench.run(DRAW).results["draw"].media[0][2:]
    bench.run(OTHER, prune_outputs=True)
    assert not (bench.folder / path).exists()
