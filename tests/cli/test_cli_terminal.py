"""`poeflow` on a real terminal: a live tree while steps run, which stays when they are done.

What a person would see is asserted: what the program writes is played on an emulated terminal.
"""

import re
from collections.abc import Callable

import pexpect
import pyte
import pytest

from poeflow.simulator.server import Simulator

FLOW = """\
poeflow: 1
name: pages
steps:
  left: {model: Claude-Sonnet-4.5, prompt: left}
  right: {model: Claude-Sonnet-4.5, prompt: right}
  last: {render: "done {{ steps.left.text | length }}", needs: [left, right]}
"""
WIDE = """\
poeflow: 1
name: wide
steps:
  each: {for_each: "range(60) | list", model: Claude-Sonnet-4.5, prompt: "say {{ item }}"}
  last: {render: "done {{ steps.each.all | length }}"}
"""

BEGIN, END = "\x1b[?7l", "\x1b[?7h"
"""What stands around each drawing: it switches the breaking of lines off and on."""


class Session:
    """A command on a pseudo-terminal, and what is on its screen."""

    def __init__(self, desk, *arguments: str, width: int = 80, height: int = 24, **environ: str):
        env = {**desk.env(), "TERM": "xterm-256color", **environ}
        if "CI" not in environ:
            del env["CI"]
        command, *rest = desk.command(*arguments)
        self._emulated = pyte.Screen(width, height)
        self._stream = pyte.Stream(self._emulated)
        self.child = pexpect.spawn(
            command, rest, cwd=desk.folder, env=env, dimensions=(height, width), encoding="utf-8"
        )
        self.written = ""
        self._unshown = ""

    @property
    def lines(self) -> list[str]:
        rows = [row.rstrip() for row in self._emulated.display]
        while rows and not rows[-1]:
            rows.pop()
        return [re.sub("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", "*", row) for row in rows]

    def until(self, pattern: str) -> list[str]:
        """Return the screen as soon as it matches. Fails where that never happens."""
        while not re.search(pattern, "\n".join(self.lines)):
            self._advance()
        return self.lines

    def wait(self, holds: Callable[[], bool]) -> None:
        """Follow the screen until something `holds` elsewhere."""
        while not holds():
            self._advance()

    def end(self) -> list[str]:
        """Return the screen when the command is done."""
        while True:
            try:
                self._advance()
            except pexpect.EOF:
                self._stream.feed(self._unshown)
                break
        self.child.close()
        return self.lines

    def _advance(self) -> None:
        """Show what comes next: a drawing as a whole, as half of one is mixed with the last."""
        drawing, end, rest = self._unshown.partition(END)
        if end:
            self._unshown = rest
            self._stream.feed(drawing + end)
        elif BEGIN in self._unshown or re.search(r"\x1b(\[(\?7?)?)?\Z", self._unshown):
            self._unshown += self._read()
        elif self._unshown:
            self._stream.feed(self._unshown)
            self._unshown = ""
        else:
            self._unshown = self._read()

    def _read(self) -> str:
        text = self.child.read_nonblocking(65_536, timeout=20)
        self.written += text
        return text

    def resize(self, width: int, height: int) -> None:
        self._emulated.resize(height, width)
        self.child.setwinsize(height, width)


@pytest.fixture
def slow(desk):
    """The desk, before a server that takes half a second for each answer."""
    with Simulator(latency=0.5) as simulator:
        desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        yield desk


def test_steps_are_drawn_while_they_run_and_stay(slow):
    slow.write("a.yaml", FLOW)
    session = Session(slow, "run", "a.yaml")
    working = session.until("2 at work, 1 waiting")
    assert working[0] == "pages"
    assert re.fullmatch(r"\* left  0\.\d s   Claude-Sonnet-4\.5", working[1])
    assert working[3] == "· last"
    left, right, last, said, result = session.end()[1:]
    assert session.child.exitstatus == 0
    assert re.fullmatch(r"✓ left  answered in \d\.\d s, \d+ tokens", left)
    assert re.fullmatch(r"✓ right answered in \d\.\d s, \d+ tokens", right)
    assert last == "✓ last  rendered"
    assert re.fullmatch(r"2 asked, 1 rendered in [01]\.\d s, 2 requests, \d+ tokens.*", said)
    assert re.fullmatch(r"done \d+", result)


@pytest.mark.parametrize(("width", "height"), [(40, 10), (30, 5), (200, 50)])
def test_a_loop_fits_the_terminal(slow, width, height):
    slow.write("a.yaml", WIDE)
    session = Session(slow, "run", "a.yaml", "--concurrency", "30", width=width, height=height)
    working = session.until(r"(?s)30/60.* 30 at work")
    shown = sum(bool(re.match(r"  \* \d+ ", line)) for line in working)
    assert shown == {10: 5, 5: 1, 50: 23}[height]
    assert f"  … {30 - shown} more at work" in working
    said = session.end()
    assert said[-1] == "done 60"
    assert height == 5 or said[1].startswith("✓ each 60 answered in ")


def test_a_terminal_that_is_resized_is_drawn_anew(slow):
    slow.write("a.yaml", WIDE)
    session = Session(slow, "run", "a.yaml", "--concurrency", "4", width=80, height=24)
    session.until(r"━\S+ 4/60")
    session.resize(100, 12)
    lines = session.until(r"━\S+ (?:8|12|16|20)/60.*(?:\n *\* .*){4}")
    assert [line.split()[0] for line in lines] == [
        "wide",
        "*",
        "*",
        "*",
        "*",
        "*",
        "·",
        lines[-1].split()[0],
    ]
    session.child.sendintr()
    session.end()


def test_a_retry_counts_down(desk):
    desk.write("a.yaml", FLOW)
    with Simulator(faults="429=3x1") as simulator:
        desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        session = Session(desk, "run", "a.yaml")
        session.until(r"429, waiting 2\.\d s")
        session.until(r"429, waiting 1\.\d s")
        session.child.sendintr()
        session.end()


def test_without_colour_no_colour_is_used(desk):
    desk.write("a.yaml", FLOW)
    session = Session(desk, "run", "a.yaml", "--offline", NO_COLOR="1")
    assert session.end()[1].startswith("✓ left")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", session.written)


def test_without_unicode_none_is_used(desk):
    desk.write("a.yaml", WIDE.replace("range(60) | list", "['grün', 'rot']"))
    session = Session(desk, "run", "a.yaml", "--offline", PYTHONIOENCODING="ascii:backslashreplace")
    lines = session.end()
    assert lines[1].startswith("* each 2 answered")
    assert session.written.isascii()


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"CI": "true"}])
def test_lines_where_nothing_can_be_drawn(desk, environ):
    desk.write("a.yaml", FLOW)
    session = Session(desk, "run", "a.yaml", "--offline", **environ)
    assert any(line.startswith("left: answered in ") for line in session.end())
    assert "\x1b" not in session.written


def test_what_a_model_says_does_not_steer_the_terminal(desk):
    desk.write("a.yaml", "poeflow: 1\nsteps: {a: {model: GPT-5.2, prompt: hi}}\n")
    told = r"one \u001b]0;owned\u0007\u001b]52;c;eA==\u0007 \u001b[2J\u009b31m \rover\u202egnp.exe"
    rule = f'{{answer: {{text: "{told}"}}, fault: slow=0.2}}'
    script = desk.write("script.yaml", f"simulator: 1\nrules: [{rule}]\n")
    with Simulator(script=script) as simulator:
        desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        session = Session(desk, "run", "a.yaml")
        session.until(r"│ one \\x1b\]0;owned\\x07")
        session.end()
    shown = r"one \x1b]0;owned\x07\x1b]52;c;eA==\x07 \x1b[2J\x9b31m \x0dover\u202egnp.exe"
    assert shown in "".join(session.lines[-2:])
    assert not re.search("\x1b\\]|\x07|\x1b\\[2J|\x9b|\u202e", session.written)
    assert session.child.exitstatus == 0


def test_ctrl_c_says_how_far_it_came_and_gives_the_cursor_back(desk):
    desk.write("a.yaml", FLOW)
    with Simulator(latency=30) as simulator:
        desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        session = Session(desk, "run", "a.yaml")
        session.until("2 at work, 1 waiting")
        session.wait(lambda: len(simulator.requests) == 2)
        session.child.sendintr()
        lines = [line for line in session.end() if line]
    assert session.child.exitstatus == 130
    assert re.fullmatch(r"! left  stopped after \d\.\d s", lines[1])
    assert lines[3] == "· last  not started"
    assert re.fullmatch(r"interrupted after \d\.\d s: 2 requests, 2 of unknown outcome", lines[4])
    assert lines[5:] == ["run it again to go on", "interrupted"]
    assert session.written.rfind("\x1b[?25h") > session.written.rfind("\x1b[?25l")
    assert "Traceback" not in session.written


def test_problems_come_with_their_line_and_a_caret(desk):
    desk.write("a.yaml", "poeflow: 1\nsteps:\n  a: {rendr: hi}\n")
    assert Session(desk, "check", "a.yaml").end()[:4] == [
        'a.yaml:3:7: unknown key "rendr"; did you mean "render"?',
        "      a: {rendr: hi}",
        "          ^",
        "✗ 1 problem in 1 flow",
    ]


def test_a_plan_is_a_sheet_and_in_a_pipe_a_line_an_instance(desk):
    desk.write("a.yaml", WIDE)
    session = Session(desk, "plan", "a.yaml", width=60)
    *lines, said, rest = session.end()
    assert lines == [
        "+ each[0]  new     Claude-Sonnet-4.5",
        "    the lock does not have it",
        "  … 59 more like it",
        "? last     unknown",
        "    unknown until each[0] has run; the lock does not have",
        "    it",
    ]
    assert f"{said} {rest}".startswith("60 new, 1 unknown: 60 ")
    assert "\x1b[32m" in session.written
    lines = desk.run("plan", "a.yaml").stdout.splitlines()
    assert len(lines) == 61
    assert lines[0] == "each[0]   new      the lock does not have it"


def test_a_file_that_a_flow_reads_is_shown_at_its_problem(desk):
    desk.write("a.yaml", "poeflow: 1\nsteps:\n  a: {render: hi}\n")
    desk.write("poeflow.toml", "# shared\nmodles = 1\n")
    assert Session(desk, "check", "a.yaml").end()[1:3] == ["    modles = 1", "    ^"]


def test_nothing_is_shown_of_a_file_that_was_refused(desk):
    desk.write("a.yaml", "poeflow: 1\nsteps:\n  a: {render: hi}\n")
    desk.write("home/creds", "AWS_SECRET=wJalrXUtnFEMI\n")
    project = desk.folder / "project"
    project.mkdir()
    (project / "poeflow.toml").touch()
    (desk.folder / "a.yaml").rename(project / "a.yaml")
    (project / "a.inputs.yaml").symlink_to(desk.folder / "home/creds")
    (project / "d.yaml").symlink_to(desk.folder / "home/creds")
    for name in ("a", "d"):
        shown = "\n".join(Session(desk, "check", f"project/{name}.yaml").end())
        assert "is a link that leaves the project" in shown
        assert "AWS" not in shown
