"""What poeflow is measured beside: the commands that do the same work another way."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from environments import ROOT, Programs

CLIENT = Path(__file__).with_name("bench_client.py")
SCHEMA = ROOT / "schemas" / "flow.schema.json"
Command = Sequence[str | Path]

HTTPX_SCRIPT = """
import sys, httpx
answer = httpx.post(
    sys.argv[1] + "/v1/chat/completions",
    headers={"authorization": "Bearer some-key-12345"},
    json={"model": "m", "messages": [{"role": "user", "content": "step 0"}]},
    timeout=60,
)
print(answer.raise_for_status().json()["choices"][0]["message"]["content"])
"""
FLOOR_SCRIPT = """
import hashlib, json, pathlib, sqlite3, yaml
flow = yaml.load(pathlib.Path("a.yaml").read_bytes(), Loader=yaml.CSafeLoader)
json.loads(pathlib.Path("a.lock.json").read_bytes())
for step in flow["steps"].values():
    hashlib.sha256(pathlib.Path(step["output"]["save"]).read_bytes()).digest()
"""


class Work(NamedTuple):
    """Requests for a client: one of its rows, how many, so many at a time, in milliseconds each."""

    row: str
    count: int
    width: int
    latency_ms: float


def aiohttp_script(programs: Programs, address: str, work: Work) -> Command:
    return _client(programs.peers, "aiohttp", address, work)


def client_alone(programs: Programs, address: str, work: Work) -> Command:
    """Return the command that does it with poeflow's own client, and nothing around it."""
    return _client(programs.python, "poeflow", address, work)


def httpx_script(programs: Programs, address: str) -> Command:
    return [programs.peers, "-c", HTTPX_SCRIPT, address]


def check_jsonschema(programs: Programs, flows: Sequence[Path]) -> Command:
    return [programs.peers.with_name("check-jsonschema"), "--schemafile", SCHEMA, *flows]


def plain_python(programs: Programs) -> Command:
    """Return the command that reads what a fresh run must read: flow, lock and outputs."""
    return [programs.python, "-c", FLOOR_SCRIPT]


def _client(python: Path, name: str, address: str, work: Work) -> Command:
    changes = [f"count={work.count}", f"width={work.width}", f"fake=latency_ms={work.latency_ms}"]
    return [python, CLIENT, work.row, name, address, *changes]
