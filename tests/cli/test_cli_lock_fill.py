"""Locks come back in order without a request: `lock fill`, and `run` after a merge in git."""

import json
import subprocess

import pytest

from poeflow.store.lockfile import LockFile

FLOW = """\
poeflow: 1
steps:
  say:
    for_each: {file: rows.csv, key: item.key}
    model: Claude-Sonnet-4.5
    prompt: "say {{ item.text }}"
    output: {save: "out/{{ key }}.md"}
  all:
    model: Claude-Sonnet-4.5
    prompt: "{% for one in steps.say.all %}{{ one.text }}{% endfor %}"
    output: {save: out/all.md}
"""


class Place:
    """A repository without a merge driver, as where a hosted merge is resolved."""

    def __init__(self, desk, simulator):
        self.desk = desk
        self.simulator = simulator
        self.lock = desk.folder / "a.lock.json"
        desk.write(".gitignore", "home/\n.poeflow/\n")
        desk.write("a.yaml", FLOW)
        self.git("init", "-q", "-b", "main")

    def git(self, *words, is_fine=True):
        own = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words]
        done = subprocess.run(
            own,
            cwd=self.desk.folder,
            env=self.desk.env(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or not is_fine, done.stderr
        return done.stdout

    def write_rows(self, **rows):
        lines = [f"{key},{text}\n" for key, text in rows.items()]
        self.desk.write("rows.csv", "".join(["key,text\n", *lines]))

    def run(self, *arguments):
        done = self.desk.run(*(arguments or ("run", "a.yaml")))
        return done.returncode, done.stderr

    def commit(self, **rows):
        if rows:
            self.write_rows(**rows)
            code, said = self.run()
            assert code == 0, said
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "x")

    @property
    def asked(self):
        return len(self.simulator.requests)

    def forget_answers(self):
        for path in (self.desk.folder / ".poeflow").iterdir():
            path.unlink() if path.is_file() else None

    def rows(self):
        lock = LockFile(self.lock, shown="a.lock.json").read()
        return {name: entry.text for name, entry in lock.instances.items()}

    def merged(self):
        """Return the lock's rows of both branches, and leave a merge with conflicts."""
        self.commit(b="1", d="2")
        self.git("checkout", "-q", "-b", "other")
        self.commit(b="9", d="2", g="7")
        other = self.rows()
        self.git("checkout", "-q", "main")
        self.commit(a="0", b="8", d="2")
        own = self.rows()
        self.git("merge", "-q", "other", is_fine=False)
        assert "<<<<<<<" in self.lock.read_text()
        self.git("checkout", "-q", "--ours", "out/b.md", "out/all.md")
        return own, other


@pytest.fixture
def place(online, simulator):
    return Place(online, simulator)


def test_a_lock_that_is_gone_comes_back_from_stored_answers(place):
    place.commit(b="1", d="2")
    before, asked = place.lock.read_bytes(), place.asked
    place.git("rm", "-q", "--cached", "a.lock.json")
    place.lock.unlink()
    code, said = place.run("lock", "fill", "a.yaml")
    assert (code, place.asked) == (0, asked), said
    assert place.lock.read_bytes() == before
    assert said == (
        "a.yaml: filled 3 entries: say@b, say@d, all\na.yaml: the lock proves everything current\n"
    )
    assert place.run("run", "a.yaml", "--locked")[0] == 0
    assert place.run("lock", "fill") == (0, "a.yaml: nothing to fill\n")


@pytest.mark.parametrize("damage", ["", '{"poeflow_lock": 2, "in', "not json"])
def test_without_answers_it_comes_back_from_the_files_and_git(place, damage):
    place.commit(b="1", d="2")
    before, asked = place.lock.read_bytes(), place.asked
    place.lock.write_text(damage)
    if not damage:
        place.lock.unlink()
    place.forget_answers()
    code, said = place.run("lock", "fill", "a.yaml")
    assert (code, place.asked) == (0, asked), said
    assert place.lock.read_bytes() == before
    assert ("mended" in said) == bool(damage)


def test_the_lock_of_a_gone_flow_does_not_stand_for_what_git_has(place):
    place.desk.write("gone.yaml", FLOW.replace("out/", "gone/").replace("say {{", "tell {{"))
    place.write_rows(b="1", d="2")
    assert place.run("run", "gone.yaml")[0] == 0
    place.commit(b="1", d="2")
    before, asked = place.lock.read_bytes(), place.asked
    (place.desk.folder / "gone.yaml").unlink()
    place.lock.unlink()
    place.forget_answers()
    code, said = place.run("lock", "fill", "a.yaml")
    assert (code, place.asked) == (0, asked), said
    assert place.lock.read_bytes() == before


def test_what_cannot_be_proven_remains_and_is_said(place):
    place.commit(b="1", d="2")
    asked = place.asked
    place.write_rows(b="1", d="3", g="4")
    place.lock.unlink()
    place.git("rm", "-q", "--cached", "a.lock.json")
    (place.desk.folder / "out/b.md").write_text("edited by hand")
    code, said = place.run("lock", "fill", "a.yaml")
    assert (code, place.asked) == (4, asked), said
    assert "remains: say@g: new: the lock does not have it\n" in said
    assert "remains: say@d: stale: item changed\n" in said
    assert "remains: say@b: edited" in said
    assert "remains: all: unknown" in said
    assert (place.desk.folder / "out/b.md").read_text() == "edited by hand"


def test_an_entry_that_proves_nothing_comes_back_if_its_files_are_there(place):
    place.commit(b="1", d="2")
    before = place.rows()
    place.lock.unlink()
    place.forget_answers()
    place.write_rows(b="1", d="3")
    code, said = place.run("lock", "fill", "a.yaml")
    assert (code, place.rows()) == (4, before), said
    assert "a.yaml: filled 3 entries: say@b, all, say@d\n" in said
    assert "remains: say@d: stale: item changed\n" in said
    assert "edited" not in said
    assert place.run()[0] == 0
    assert place.run("run", "a.yaml", "--locked") == (0, "a.yaml: current\n")


def test_an_entry_does_not_come_back_for_other_files_or_a_step_that_is_gone(place):
    place.commit(b="1", d="2")
    place.lock.unlink()
    place.forget_answers()
    (place.desk.folder / "out/d.md").write_text("mine")
    (place.desk.folder / "out/all.md").unlink()
    place.write_rows(d="3", g="4")
    code, said = place.run("lock", "fill", "a.yaml")
    assert (code, place.lock.exists()) == (4, False), said
    assert "remains: say@d: edited" in said


@pytest.mark.parametrize("command", [("run", "a.yaml"), ("lock", "fill", "a.yaml")])
@pytest.mark.parametrize("side", ["own", "other"])
def test_a_conflict_of_a_hosted_merge_is_mended_without_a_request(place, command, side):
    own, other = place.merged()
    if side == "own":
        place.write_rows(a="0", b="8", d="2")
    else:
        place.write_rows(b="9", d="2", g="7")
        place.git("checkout", "-q", "--theirs", "out/b.md", "out/all.md")
    place.forget_answers()
    asked = place.asked
    code, said = place.run(*command)
    assert (code, place.asked) == (0 if command[0] == "run" else 4, asked), said
    if command[0] == "lock":
        gone = "g" if side == "own" else "a"
        assert f"remains: out/{gone}.md: orphaned" in said
        assert said.count("remains:") == 1
    assert "has conflict marks" in said
    wanted = own if side == "own" else other
    assert {name: place.rows()[name] for name in wanted} == wanted
    assert "<<<<<<<" not in place.lock.read_text()
    assert place.run("run", "a.yaml", "--prune-outputs")[0] == 0
    assert place.run("run", "a.yaml", "--locked") == (0, "a.yaml: current\n")
    assert place.asked == asked


def test_what_both_sides_prove_is_taken_and_the_rest_is_asked(place):
    place.merged()
    place.write_rows(a="0", b="8", d="2", g="7")
    place.forget_answers()
    asked = place.asked
    code, said = place.run("lock", "fill", "a.yaml")
    assert (code, place.asked) == (4, asked), said
    assert set(place.rows()) == {"say[a]", "say[b]", "say[d]", "say[g]", "all"}
    assert "remains: all:" in said
    assert "remains: say" not in said
    assert place.run()[0] == 0
    assert place.asked > asked


def test_what_no_side_proves_has_the_entry_of_the_files_on_disk(place):
    place.merged()
    place.git("checkout", "-q", "--theirs", "out/b.md", "out/all.md")
    place.write_rows(b="5", d="2")
    place.forget_answers()
    asked = place.asked
    code, said = place.run("lock", "fill", "a.yaml")
    assert (code, place.asked) == (4, asked), said
    assert "remains: say@b: stale" in said
    assert "edited" not in said
    assert place.run()[0] == 0, "its files are not taken for edited ones"


@pytest.mark.parametrize("command", [("run", "a.yaml"), ("lock", "fill", "a.yaml")])
def test_a_conflict_that_no_side_of_the_file_survives_is_mended_from_git(place, command):
    own, _ = place.merged()
    place.write_rows(a="0", b="8", d="2")
    place.lock.write_text(place.lock.read_text().replace('"steps"', '"stps"'))
    place.forget_answers()
    asked = place.asked
    code, said = place.run(*command)
    assert (code, place.asked) == (0 if command[0] == "run" else 4, asked), said
    assert "neither side can be read" in said
    assert {name: place.rows()[name] for name in own} == own


def test_a_conflict_that_was_committed_is_mended_from_older_commits(place):
    own, _ = place.merged()
    place.write_rows(a="0", b="8", d="2")
    place.lock.write_text(place.lock.read_text().replace('"steps"', '"stps"'))
    place.commit()
    place.forget_answers()
    asked = place.asked
    assert place.run()[0] == 0
    assert place.asked == asked
    assert place.rows() == own


def test_it_needs_no_key_and_leaves_the_lock_of_a_newer_poeflow(place):
    place.commit(b="1")
    del place.desk.environ["POE_API_KEY"]
    assert place.run("lock", "fill")[0] == 0
    text = json.dumps({"poeflow_lock": 99})
    place.lock.write_text(text)
    code, said = place.run("lock", "fill", "a.yaml")
    assert (code, "of a newer poeflow" in said) == (4, True), said
    assert place.lock.read_text() == text


def test_mistakes_are_shown_and_nothing_is_written(place):
    place.commit(b="1")
    before = place.lock.read_bytes()
    place.desk.write("a.yaml", FLOW.replace("item.text", "itm.text"))
    code, said = place.run("lock", "fill")
    assert (code, "a.yaml:6" in said) == (3, True), said
    assert place.lock.read_bytes() == before
    code, said = place.run("lock", "fill", "nope.yaml")
    assert (code, "nope.yaml: no such file" in said) == (2, True), said


def test_a_lock_with_a_secret_comes_back_with_its_file(place):
    place.desk.write("keys.txt", "POEFLOW_SECRET_TOKEN=customer-secret-4711\n")
    flow = FLOW.replace("steps:", "inputs: {token: {secret: true}}\nsteps:", 1)
    place.desk.write("a.yaml", flow.replace("say {{", "with {{ inputs.token }} say {{"))
    place.write_rows(b="1", d="2")
    assert place.run("run", "a.yaml", "--env-file", "keys.txt")[0] == 0
    before, asked = place.lock.read_bytes(), place.asked
    place.lock.unlink()
    code, said = place.run("lock", "fill", "a.yaml", "--env-file", "keys.txt")
    assert (code, place.asked, place.lock.read_bytes()) == (0, asked, before), said
