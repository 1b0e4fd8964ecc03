"""`poeflow` on a real terminal: a live table while steps run, one line for each when done."""

import re

import pexpect
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


@pytest.fixture
def terminal(desk):
    """Start a command on a pseudo-terminal of 80 by 24; more environment may be given."""

    def start(*arguments: str, **environ: str) -> pexpect.spawn:
        command, *rest = desk.command(*arguments)
        env = {**desk.env(), "TERM": "xterm-256color", **environ}
        env.pop("CI")
        return pexpect.spawn(
            command, rest, cwd=desk.folder, env=env, dimensions=(24, 80), encoding="utf-8"
        )

    return start


def test_running_steps_are_shown_live_and_finished_ones_stay(desk, terminal):
    desk.write("a.yaml", FLOW)
    with Simulator(latency=0.5) as simulator:
        desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        child = terminal("run", "a.yaml")
        child.expect(r"1 waiting", timeout=20)
        child.expect("2 asked, 1 rendered in", timeout=20)
        child.expect(pexpect.EOF, timeout=20)
        child.close()
    assert child.exitstatus == 0
    assert re.search(r"done \d+", child.before)


def test_without_colour_no_colour_is_used(desk, terminal):
    desk.write("a.yaml", FLOW)
    child = terminal("run", "a.yaml", "--offline", NO_COLOR="1")
    child.expect(pexpect.EOF, timeout=20)
    assert "✓" in child.before
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", child.before)


def test_a_dumb_terminal_gets_lines(desk, terminal):
    desk.write("a.yaml", FLOW)
    child = terminal("run", "a.yaml", "--offline", TERM="dumb")
    child.expect(pexpect.EOF, timeout=20)
    assert "left: asking Claude-Sonnet-4.5\r\n" in child.before
    assert "\x1b" not in child.before


def test_problems_come_with_their_line_and_a_caret(desk, terminal):
    desk.write("a.yaml", "poeflow: 1\nsteps:\n  a: {rendr: hi}\n")
    child = terminal("check", "a.yaml")
    child.expect(pexpect.EOF, timeout=20)
    assert child.before.splitlines()[:3] == [
        'a.yaml:3:7: unknown key "rendr"; did you mean "render"?',
        "      a: {rendr: hi}",
        "          ^",
    ]


def test_ctrl_c_ends_a_live_run_with_130_and_the_cursor_back(desk, terminal):
    desk.write("a.yaml", FLOW)
    with Simulator(latency=30) as simulator:
        desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        child = terminal("run", "a.yaml")
        child.expect("1 waiting", timeout=20)
        child.sendintr()
        child.expect("interrupted", timeout=5)
        child.expect(pexpect.EOF, timeout=5)
        child.close()
    assert child.exitstatus == 130
    assert "Traceback" not in child.before
