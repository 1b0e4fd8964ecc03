"""In fresh clones results are read from files if the lock proves all that others see of them."""

import re

import pytest

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
SAY = "  say: {prompt: say, output: {save: o/say.md}}\n"
FACTS = "  facts: {prompt: facts, output: {save: o/facts.json, schema: {type: object}}}\n"
WORD = "  word: {prompt: word, output: {save: o/word.txt, one_of: [a, b]}}\n"
LOST = FACTS.replace("{type: object}", "{type: object}, default: {}")
OTHER = '  other: {render: "{% set one = steps.draw %}{{ one.text }}"}\n'
AGAIN = "  again: {prompt: more, history: draw}\n"
DRAW = "  draw: {model: GPT-Image-1, prompt: draw, output: {media: pics}}\n"
BOTH = "  both: {model: GPT-Image-1, prompt: draw, output: {media: pics, save: o/both.md}}\n"


def page(text):
    return f'  page: {{render: "<{text}>", output: {{save: o/page.md}}}}\n'


def rendered(origin, steps, text):
    """Return the clone of a flow that has run, and what `page` showed, which is then changed."""
    clone = origin(HEAD + steps + page(text)).clone()
    before = clone.text("o/page.md")
    clone.edit("a.yaml", '"<', '">')
    return clone, before.replace("<", ">", 1)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (SAY, "{{ steps.say.text }} {{ steps.say.model }}"),
        (SAY, "{{ steps.say.text }} {{ steps.say.tool_calls | tojson }}"),
        (FACTS, "{{ steps.facts.data | tojson }} {{ steps.facts.model }}"),
        (WORD, "{{ steps.word.value }}"),
        (DRAW, "{{ steps.draw.media[0] }}"),
        (BOTH, "{{ steps.both.media[0] }} {{ steps.both.text }}"),
        (BOTH, "{{ steps.both.media[0] }}"),
    ],
)
def test_a_result_is_taken_from_files_that_prove_it(origin, steps, text):
    clone, wanted = rendered(origin, steps, text)
    assert clone.states()["page"] == ("stale", ["render changed"])
    code, said = clone("run")
    assert (code, clone.text("o/page.md"), clone.asked) == (0, wanted, 0), said
    assert clone("run", "--locked")[0] == 0


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (SAY, "{{ steps.say.text }} {{ steps.say.usage.total_tokens }}"),
        (SAY, "{% set one = steps.say %}{{ one.usage.total_tokens }}"),
        (SAY, "{{ steps.say.text }} {{ steps.say.reasoning }}"),
        (LOST, "{{ steps.facts.data | tojson }} {{ steps.facts.used_default | tojson }}"),
        (DRAW, "{{ steps.draw.media[0] }} {{ steps.draw.text }}"),
        (DRAW, "{{ steps.draw.media[0] }} {{ steps.draw.model }}"),
        (DRAW + OTHER, "{{ steps.draw.media[0] }}"),
        (DRAW + AGAIN, "{{ steps.draw.media[0] }}"),
        (DRAW, "{% set one = steps.draw %}{{ one.media[0] }}"),
    ],
)
def test_what_no_file_proves_is_asked_for(origin, steps, text):
    clone, _ = rendered(origin, steps, text)
    name = steps.split(":")[0].strip()
    needed = "page needs its answer, which is not here"
    assert clone.states()[name] == ("needed", [needed])
    code, said = clone("run")
    assert (code, clone.asked) == (0, 1), said
    assert "None" not in clone.text("o/page.md")


@pytest.mark.parametrize("text", ['{"n": 4}', "{}", "no json"])
def test_data_of_an_edited_file_are_not_those_of_the_answer(origin, text):
    clone, _ = rendered(origin, FACTS, "{{ steps.facts.data | tojson }}")
    clone.write("o/facts.json", text)
    code, said = clone("run")
    assert (code, clone.asked) != (0, 0), said
    assert clone.text("o/facts.json") == text


def test_a_picture_that_is_gone_or_another_is_no_proof(origin):
    clone, _ = rendered(origin, DRAW, "{{ steps.draw.media[0] }}")
    [picture] = (clone.desk.folder / "pics").iterdir()
    picture.write_bytes(b"other")
    assert clone.states()["draw"][0] == "needed"
    picture.unlink()
    assert clone.states()["draw"][0] == "missing"


def test_a_picture_is_not_shown_as_an_empty_text(origin):
    clone = origin(HEAD + DRAW + page("{{ steps.draw.media[0] }}")).clone()
    done = clone.desk.run("run", "a.yaml:draw", "--until")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "its answer is not here" in done.stderr
    assert clone.asked == 0


def test_the_picture_of_an_accepted_text_is_still_there(origin):
    made = origin(HEAD + BOTH + page("{{ steps.both.media[0] }} {{ steps.both.text }}"))
    made.desk.write("o/both.md", "Mine\n")
    made.run("accept", "a.yaml")
    made.run()
    made.commit()
    clone = made.clone()
    before = clone.text("o/page.md")
    assert "Mine" in before
    clone.edit("a.yaml", '"<', '">')
    assert clone("run")[0] == 0
    assert (clone.text("o/page.md"), clone.asked) == (before.replace("<", ">", 1), 0)


@pytest.mark.parametrize(("steps", "name"), [(FACTS, "facts"), (BOTH, "both")])
def test_a_file_with_another_result_than_the_lock_has_is_no_proof(origin, steps, name):
    read = "data | tojson" if name == "facts" else "media[0]"
    clone, _ = rendered(origin, steps, f"{{{{ steps.{name}.{read} }}}} {{{{ steps.{name}.text }}}}")
    hashes = re.search(rf'"{name}":\n \{{"hashes":"(\S+ \S+ \S+) (\S+)', clone.text("a.lock.json"))
    clone.edit("a.lock.json", f"{hashes[1]} {hashes[2]}", f"{hashes[1]} {hashes[1][:22]}")
    assert clone.states()[name][0] == "needed"


def test_an_output_is_left_out_if_no_file_has_it(origin):
    outputs = 'outputs: {n: "{{ steps.say.usage.total_tokens }}", model: "{{ steps.say.model }}"}\n'
    clone = origin(HEAD + SAY + outputs).clone()
    code, said = clone("run")
    assert (code, clone.asked) == (0, 0)
    assert "say is current, and its answer is not here" in said
    clone.edit("a.yaml", '"{{ steps.say.usage.total_tokens }}"', '"1"')
    assert '"model": "gpt-5.2' in clone("run")[1]
