import textwrap
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from poeflow.errors import InvalidFlowError, UsageError
from poeflow.flowfile.schema import bundled_schema
from poeflow.project.project import schemas_folder
from poeflow.simulator.script import SCHEMA, read_script
from poeflow.simulator.server import Simulator


def written(folder: Path, text: str) -> Path:
    path = folder / "script.yaml"
    path.write_text(textwrap.dedent(text), "utf-8")
    return path


INVALID = {
    "not yaml": ("simulator: [", "script.yaml:"),
    "empty": ("# nothing", "script.yaml:1:1: the script is empty; start with simulator: 1"),
    "list": ("- 1", "script.yaml:1:1: the script is not a mapping; start with simulator: 1"),
    "version": (
        "simulator: 2\nrules: []",
        "script.yaml:1:12: simulator must be 1; write simulator: 1",
    ),
    "version as text": (
        "simulator: '1'\nrules: []",
        "script.yaml:1:12: simulator must be a whole number, not '1'; remove the quotes: 1",
    ),
    "version with a point": (
        "simulator: 1.0\nrules: []",
        "script.yaml:1:12: simulator must be a whole number, not 1.0",
    ),
    "key": (
        "simulator: 1\nrules:\n  - {anser: {text: x}}",
        'script.yaml:3:6: unknown key "anser"; did you mean "answer"?',
    ),
    "pattern": (
        "simulator: 1\nrules:\n  - match: {regex: '(?=x)'}",
        "script.yaml:3:20: the pattern is not valid: invalid perl operator: (?=; write it in RE2",
    ),
    "template": (
        "simulator: 1\nrules:\n  - answer: {template: '{{ prompt'}",
        "script.yaml:3:",
    ),
    "both": (
        "simulator: 1\nrules:\n  - answer: {text: x, json: 1}",
        'script.yaml:3:29: "json" is not allowed with "text"; remove text: or json:',
    ),
    "error and calls": (
        "simulator: 1\nrules:\n  - answer: {error: {status: 500}, tool_calls: [{name: f}]}",
        'script.yaml:3:21: "error" is not allowed with tool calls; remove error: or tool_calls:',
    ),
    "media of another kind": (
        "simulator: 1\nrules:\n  - answer: {media: picture}",
        "script.yaml:3:14: media must be image, video, audio or a mapping with file, not picture",
    ),
    "media without a file": (
        "simulator: 1\nrules:\n  - answer: {media: {path: x.png}}",
        "script.yaml:3:14: media must be image, video, audio or a mapping with file, not {path: x.",
    ),
    "recipe": (
        "simulator: 1\nrules:\n  - fault: stal",
        'script.yaml:3:12: unknown fault "stal"; did you mean "stall"?',
    ),
    "missing file": (
        "simulator: 1\nrules:\n  - answer: {media: {file: no.png}}",
        "script.yaml:3:28: //no.png does not exist; check the path",
    ),
    "kind of file": (
        "simulator: 1\nrules:\n  - answer: {media: {file: no.txt}}",
        "script.yaml:3:28: no.txt is not an image, video or audio; known: png, jpg",
    ),
    "outside": (
        "simulator: 1\nrules:\n  - answer: {media: {file: ../x.png}}",
        "script.yaml:3:28: ../x.png: the path leaves the project",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_mistakes_are_told_at_their_place(tmp_path, name):
    (tmp_path / "poeflow.toml").touch()
    text, told = INVALID[name]
    path = tmp_path / "script.yaml"
    path.write_text(text)
    with pytest.raises(InvalidFlowError) as caught:
        read_script(path)
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(told)


def test_all_mistakes_are_told_at_once(tmp_path):
    path = written(
        tmp_path,
        """
        simulator: 1
        rules:
          - match: {regex: "("}
          - fault: nope
          - answer: {text: a, media: image}
        """,
    )
    with pytest.raises(InvalidFlowError) as caught:
        Simulator(script=path)
    assert [problem.place.line for problem in caught.value.problems] == [4, 5, 6]


def test_a_script_that_is_not_there(tmp_path):
    path = tmp_path / "script.yaml"
    with pytest.raises(UsageError) as caught:
        read_script(path)
    assert caught.value.message == f"{path} does not exist", "by the name that the user gave"


def test_every_key_of_the_schema_is_described_with_an_example():
    schema = bundled_schema(SCHEMA)
    Draft202012Validator.check_schema(schema)
    parts = [schema, *schema["$defs"].values()]
    for part in parts:
        for name, written_out in part["properties"].items():
            reference = written_out.get("$ref", "").rpartition("/")[2]
            described = schema["$defs"].get(reference, written_out)
            assert described["description"], name
            examples = described["examples"]
            whole = {**described, "$defs": schema["$defs"]}
            for example in examples:
                assert Draft202012Validator(whole).is_valid(example), (name, example)
    assert (schemas_folder() / SCHEMA).is_file()


def test_the_schema_and_the_rules_know_the_same_keys():
    import msgspec

    from poeflow.simulator.script import (
        AnswerSpec,
        ErrorSpec,
        Match,
        Rule,
        ScriptedCall,
        ScriptRules,
    )

    definitions = bundled_schema(SCHEMA)["$defs"]
    pairs = [
        (bundled_schema(SCHEMA), ScriptRules),
        (definitions["rule"], Rule),
        (definitions["match"], Match),
        (definitions["answer"], AnswerSpec),
        (definitions["call"], ScriptedCall),
        (definitions["error"], ErrorSpec),
    ]
    for part, struct in pairs:
        names = [field.encode_name for field in msgspec.structs.fields(struct)]
        assert sorted(part["properties"]) == sorted(names)
