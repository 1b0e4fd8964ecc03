"""`poeflow models` as a user meets it: the list, one bot, what is kept, what is wrong."""

import json

import pytest

from poeflow.simulator.server import Simulator

KEPT = ".poeflow/models.json"
VIDEOS = """\
name     takes -> gives       context  $/M in  $/M out  $/request  parameters
Sora-2   text,image -> video        -       -        -       0.40           2
Veo-3.1  text -> video              -       -        -       1.20           7
"""
FLOW = "poeflow: 1\nsteps:\n  a: {model: Veo-3.1, prompt: hi, extra_body: {duration: 8}}\n"


def asked(simulator):
    return [request.path for request in simulator.requests]


def test_the_list_is_fetched_shown_and_kept_for_check(online, simulator):
    done = online.run("models", "--gives", "video")
    assert (done.returncode, done.stdout) == (0, VIDEOS)
    assert done.stderr == "2 of 42 bots; poeflow models NAME shows one\n"
    kept = json.loads((online.folder / KEPT).read_text())
    assert len(kept["data"]) == 42
    online.write("flow.yaml", FLOW)
    checked = online.run("check", "flow.yaml")
    assert checked.stderr.splitlines() == [
        'flow.yaml:3:58: warning: duration: 8 is sent as "8"; quote it: "8"',
        "1 flow ok",
    ]
    assert online.run("check", "flow.yaml", "--strict").returncode == 3


def test_the_list_of_one_server_does_not_judge_the_flows_of_another(online, desk):
    assert online.run("models", "--refresh").returncode == 0
    online.write("flow.yaml", FLOW.replace("Veo-3.1", "Nobody-1"))
    assert 'warning: unknown bot "Nobody-1"' in online.run("check", "flow.yaml").stderr
    del desk.environ["POE_BASE_URL"]
    assert desk.run("check", "flow.yaml").stderr == "1 flow ok\n"
    done = desk.run("models", "--offline")
    message = "error: there is no //.poeflow/models.json of https://api.poe.com/v1\n"
    assert (done.returncode, done.stderr) == (2, f"{message}  fetch it once without --offline\n")
    desk.environ["POE_BASE_URL"] = "no address"
    assert desk.run("check", "flow.yaml").stderr == "1 flow ok\n"


def test_a_list_of_today_is_not_fetched_again_unless_asked_for(online, simulator):
    for arguments in ((), ("--search", "grok"), ("Veo-3.1",)):
        assert online.run("models", *arguments).returncode == 0
    assert asked(simulator) == ["/v1/models"]
    assert online.run("models", "--refresh").returncode == 0
    assert asked(simulator) == ["/v1/models"] * 2


def test_a_kept_list_can_be_committed(online):
    online.run("models")
    first = (online.folder / KEPT).read_bytes()
    online.run("models", "--refresh")
    assert (online.folder / KEPT).read_bytes() == first
    assert (online.folder / ".poeflow/.gitignore").read_text() == "*\n"


def test_filters_narrow_the_list_together(online):
    done = online.run("models", "--search", "GPT mini", "--takes", "image", "--gives", "text")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["name", "GPT-5.4-Mini"]
    none = online.run("models", "--search", "zzz")
    assert (none.returncode, none.stdout) == (0, "")
    assert none.stderr == "0 of 42 bots; poeflow models NAME shows one\n"


def test_one_bot_is_shown_ready_to_paste(online):
    done = online.run("models", "sora-2")
    assert done.returncode == 0
    assert done.stdout.endswith(
        "model: Sora-2\n"
        "extra_body:\n"
        '  size: "720x1280"  # 1280x720, 720x1280\n'
        '  duration: "4"     # 4, 8, 12, 16, 20\n'
    )


def test_json_is_for_tools(online):
    bots = json.loads(online.run("models", "--output", "json", "--gives", "video").stdout)
    assert [bot["name"] for bot in bots] == ["Sora-2", "Veo-3.1"]
    bot = json.loads(online.run("models", "Veo-3.1", "--output", "json").stdout)
    assert bot["pricing"] == {"prompt": None, "completion": None, "request": 1.2, "cached": None}
    assert bot["parameters"][1]["values"] == ["4", "6", "8"]


def test_offline_is_what_is_kept_and_sends_nothing(online, simulator, desk):
    none = online.run("models", "--offline")
    assert none.returncode == 2
    assert none.stderr.splitlines() == [
        f"error: there is no //.poeflow/models.json of {simulator.base_url}",
        "  fetch it once without --offline",
    ]
    online.run("models")
    del desk.environ["POE_API_KEY"]
    done = desk.run("models", "--offline", "--gives", "video")
    assert (done.returncode, done.stdout) == (0, VIDEOS)
    assert len(simulator.requests) == 1
    desk.write(KEPT, b"{")
    assert "error: //.poeflow/models.json is damaged" in desk.run("models", "--offline").stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("Sora-3",), 'no bot is called "Sora-3"\n  did you mean "Sora-2"?'),
        (("zzzzz",), 'no bot is called "zzzzz"\n  poeflow models --search finds by words'),
        (("--gives", "vdeo"), 'no bot gives "vdeo"\n  did you mean "video"?'),
        (("--takes", "smell"), 'no bot takes "smell"\n  known: audio, image, text, video'),
        (
            ("o3", "--search", "x"),
            "NAME and filters exclude each other\n  leave NAME out to filter",
        ),
        (
            ("--refresh", "--offline"),
            "--refresh and --offline exclude each other\n  use one of them",
        ),
    ],
)
def test_a_slip_is_told_with_what_to_do(online, arguments, said):
    done = online.run("models", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {said}\n")


def test_the_key_may_come_from_a_file(online):
    online.write("key.env", f"POE_API_KEY={online.environ.pop('POE_API_KEY')}\n")
    assert online.run("models", "--env-file", "key.env").returncode == 0


def test_a_server_without_bots_replaces_nothing(online, desk, tmp_path):
    online.run("models")
    before = (online.folder / KEPT).read_bytes()
    empty = tmp_path / "empty.json"
    empty.write_text('{"object": "list", "data": []}')
    with Simulator(catalogue=empty) as simulator:
        desk.environ["POE_BASE_URL"] = simulator.base_url
        done = desk.run("models")
    assert (done.returncode, done.stderr) == (6, "error: the server lists no bot\n")
    assert (online.folder / KEPT).read_bytes() == before


def test_a_list_that_cannot_be_kept_is_shown_all_the_same(online):
    online.write(".poeflow", "a file in the way")
    done = online.run("models", "--gives", "video")
    assert (done.returncode, done.stdout) == (0, VIDEOS)
    assert done.stderr.startswith("warning: the list is not stored for check: ")


def test_without_a_key_nothing_is_sent_and_with_one_it_stays_out_of_the_list(online, simulator):
    online.run("models")
    key = online.environ.pop("POE_API_KEY")
    kept = [online.folder / name for name in online.files() if name.endswith(".json")]
    assert len(kept) == 2
    assert not any(key in path.read_text() for path in kept)
    done = online.run("models", "--refresh")
    assert (done.returncode, done.stdout, len(simulator.requests)) == (5, "", 1)
    assert done.stderr.startswith("error: there is no API key\n")
