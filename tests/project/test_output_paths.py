"""Outputs go to safe names, and never over what steers other programs."""

import pytest

from poeflow.project.output_paths import PROTECTED, check_output_path, older_paths, why_protected
from poeflow.project.project import FileProblem


def problem_of(path):
    with pytest.raises(FileProblem) as caught:
        check_output_path(path)
    return str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "//out/notes.md",
        "//o.u-t/ü ber.md",
        "//console.md",
        "//README.md",
        "//docs/agents/index.html",
        "//src/setup/main.py",
        "//data/package.json.md",
        "//data/rows.json",
        "//data/inputs.yaml",
        "//ahead/heads.md",
        "//head.md",
        "//configuration.yaml",
        "//.well-known/security.txt",
        "//.changeset/brave-cats-sing.md",
        "//notes~/a~b.md",
        "//draft.md.~1~",
    ],
)
def test_ordinary(path):
    check_output_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "//.git/hooks/pre-commit",
        "//.GitHub/workflows/x.yml",
        "//.gitlab-ci.yml",
        "//a/.git/x",
        "//.circleci/config.yml",
        "//.pre-commit-config.yaml",
        "//.poeflow/x",
        "//a.lock.json",
        "//flows/A.LOCK.JSON",
        "//.gitattributes",
    ],
)
def test_protected(path):
    assert " is never written by poeflow: " in problem_of(path)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (".git .gitignore .Gitea .gitlab-ci.yml", "it steers git and what hosts it"),
        ("HEAD head", "git takes a folder that holds it for a repository"),
        ("poeflow.toml x.inputs.yaml X.Inputs.yml .poeflow x.lock.json", "it steers poeflow"),
        (".forgejo .woodpecker.yml .woodpecker .buildkite .drone.yml", "CI runs what it says"),
        ("bitbucket-pipelines.yml azure-pipelines.yml appveyor.yml", "CI runs what it says"),
        ("Jenkinsfile .circleci .travis.yml", "CI runs what it says"),
        (".husky lefthook.yml .lefthook.yaml", "git's hooks run what it says"),
        (".pre-commit-config.yaml", "git's hooks run what it says"),
        (".vscode .idea .devcontainer .vim .exrc .nvimrc", "editors run what it says"),
        (".dir-locals.el a.code-workspace", "editors run what it says"),
        ("CLAUDE.md agents.md .claude .cursorrules .mcp.json", "agents do what it says"),
        (".envrc .env .env.local", "shells and programs take settings and keys from it"),
        (".npmrc .bashrc .x", "programs take dot files for their settings"),
        ("conftest.py CONFTEST.PY sitecustomize.py a.pth", "Python runs it by itself"),
        ("pyproject.toml setup.cfg Makefile justfile", "build tools run what it says"),
        ("package.json vite.config.ts Dockerfile", "build tools run what it says"),
        ("desktop.ini a.lnk", "it starts a program when it is opened"),
        ("git~1 CONFTE~1.PY", "Windows takes it for the short form of another name"),
    ],
)
def test_names_that_steer_other_programs_are_refused_with_the_reason(names, why):
    assert {why_protected(name) for name in names.split()} == {why}
    for name in names.split():
        assert problem_of(f"//{name}").endswith(f": {why}; save to another path")
        assert problem_of(f"//a/{name}/b.md").endswith(f": {why}; save to another path")


def test_letters_that_fold_to_others_hide_nothing():
    assert why_protected("\u017fetup.py") == why_protected("setup.py")


def test_every_reason_is_a_sentence_that_follows_a_colon():
    assert [why for _, why in PROTECTED if not why or why.endswith(".")] == []


@pytest.mark.parametrize(
    "path",
    [
        "//a/CON",
        "//nul.md",
        "//com1.txt",
        "//out/COM¹",
        "//out/lpt³.md",
        "//out/conin$.txt",
        "//con .md",
        "//x.",
        "//x ",
        "// x",
        "//a:b",
        "//a\nb",
        "//a\x7fb",
        "//a\u202eb",
        "//g\u200cit/x",
        "//" + "ü" * 128,
        '//a"b',
        "//a\\b",
        "//a?",
    ],
)
def test_unsafe(path):
    assert "is not a safe file name" in problem_of(path)


def test_empty():
    assert problem_of("//") == ("the output path names no file; for example out/notes.md")


def test_a_name_is_measured_as_it_is_on_disk():
    check_output_path(f"//{'é' * 127}a")
    assert problem_of(f"//{'é' * 128}").startswith(f'//{"é" * 128}: "é')


@pytest.mark.parametrize(
    ("written", "now", "then", "found"),
    [
        ("o/b.md", "//f/o/b.md", "//f/o/a.md", "o/a.md"),
        ("o/b.md", "//f/o/b.md", "//x.md", "../x.md"),
        ("//b.md", "//b.md", "//f/a.md", "./a.md"),
        ("new/{{ key }}.txt", "//f/new/o.txt", "//f/o/o.md", "o/{{ key }}.md"),
        ("//{{ key }}.md", "//x.md", "//f/x/x.md", "x/{{ key }}.md"),
        (
            "{{ a }}-{% if b %}c{% endif %}",
            "//f/1-c",
            "//f/o/1-c",
            "o/{{ a }}-{% if b %}c{% endif %}",
        ),
    ],
)
def test_an_older_path_may_have_been_written_so(written, now, then, found):
    assert found in set(older_paths(written, "//f/a.yaml", now=now, then=then))


def test_nothing_is_said_of_a_path_that_a_template_cannot_have_given():
    assert not list(older_paths("o/{{ key }}.md", "//a.yaml", now="//o/b.md", then="//o/c.md"))
    assert not list(older_paths("o/{{ key }}.md", "//a.yaml", now="//p/b.md", then="//o/b.md"))
