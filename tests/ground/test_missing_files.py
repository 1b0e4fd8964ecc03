"""What looking for a file that is not there may cost."""

from pathlib import Path

import pytest

from poeflow.project.globs import matches
from poeflow.project.project import (
    MAX_ENTRIES,
    MAX_NEAR,
    FileProblem,
    MissingFile,
    Project,
    Searches,
)
from poeflow.templates.environment import Environment
from poeflow.templates.reader import Origin, ProjectReader
from poeflow.templates.render import render
from poeflow.templates.work_budget import WorkBudget


class Counting(Searches):
    """Counts how often names nearly alike are looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def may_look_for_names(self) -> bool:
        self.looks += 1
        return super().may_look_for_names()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "notes.md").write_text("x")
    return Project(tmp_path.resolve(), searches=Counting())


def test_only_the_first_missing_files_are_told_what_looks_like_them(project):
    hints = []
    for _ in range(MAX_NEAR + 2):
        with pytest.raises(MissingFile) as caught:
            project.real_path("//note.md")
        hints.append(str(caught.value))
    assert hints[:MAX_NEAR] == ['//note.md does not exist; did you mean "notes.md"?'] * MAX_NEAR
    assert hints[MAX_NEAR:] == ["//note.md does not exist; check the path"] * 2


def test_a_file_that_may_be_missing_is_not_looked_for_by_name(project):
    environment = Environment(ProjectReader(project, project.root))
    text = "{% for i in range(50) %}{% include 'note' ~ i ignore missing %}{% endfor %}"
    origin = Origin.for_file("//main.md", text, shown="main.md")
    assert render(environment, text, origin, {}) == ""
    assert project.searches.looks == 0


def test_a_long_name_is_compared_with_none(project):
    name = "notes" * 30
    with pytest.raises(FileProblem, match=r"does not exist; check the path"):
        project.size_of(f"//{name}")


def test_all_patterns_together_are_bounded(project):
    searches = project.searches
    searches.visit(MAX_ENTRIES - 5, "//a/*")
    with pytest.raises(FileProblem) as caught:
        matches(project, "//*.md")
    assert caught.value.message == "//*.md: all patterns together look at over 500,000 files"
    assert caught.value.hint == "begin patterns with a folder, or use fewer"
    searches.lift_limit()
    assert matches(project, "//*.md") == ["//notes.md"]


def test_copies_of_a_project_are_equal_and_share_what_they_may_look_at(tmp_path):
    assert Project(tmp_path) == Project(tmp_path)
    assert hash(Project(tmp_path)) == hash(Project(tmp_path))


def test_a_pattern_counts_by_the_entries_it_looks_at(tmp_path):
    for index in range(30):
        (tmp_path / f"f{index}.txt").write_text("")
    reader = ProjectReader(Project(tmp_path.resolve()), tmp_path)
    seen: list[int] = []
    first = reader.glob("//*.txt", relative_to="//", visit=seen.append)
    assert sum(seen) == 31
    assert reader.glob("//*.txt", relative_to="//", visit=seen.append) is first
    assert sum(seen) == 31
    reader.stop_caching_patterns()
    (tmp_path / "new.txt").write_text("")
    assert len(reader.glob("//*.txt", relative_to="//", visit=seen.append)) == len(first) + 1
    assert sum(seen) == 63


def test_a_pattern_is_stopped_by_the_budget_of_its_rendering(tmp_path):
    for index in range(40):
        (tmp_path / f"f{index}.txt").write_text("")
    reader = ProjectReader(Project(tmp_path.resolve()), tmp_path)
    with pytest.raises(ValueError, match="the templates take over 2,000,000 steps together"):
        reader.glob("//*", relative_to="//", visit=WorkBudget(40).work)
