"""The rows of the table: for each the work that is done, beside what, and what must be reached."""

import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import peers
from environments import Programs
from figures import Figures, Goal, Measurement, figures_of
from measuring import usage_of
from projects import FLOW, HEAD, Project
from servers import Server
from watch import latencies


@dataclass(frozen=True)
class Bench:
    """What rows are measured with; `share` is the part of the work that is done."""

    programs: Programs
    server: Server
    folder: Path
    share: float = 1.0

    def part(self, count: int, *, least: int = 4) -> int:
        return max(least, round(count * self.share))

    def project(self, *, latency_ms: float = 0, **knobs: float) -> Project:
        """Make an empty project; the server is told how to answer it."""
        self.server.control(latency_ms=latency_ms, **knobs)
        folder = Path(tempfile.mkdtemp(prefix="project-", dir=self.folder))
        return Project(folder, self.programs.poeflow, self.server.address)

    def beside(self, project: Project, **commands: peers.Command) -> dict[str, Figures]:
        """Measure the same work done by others; without peers, by poeflow's own parts only."""
        return {
            name.replace("_", " "): figures_of(
                usage_of(command, cwd=project.folder, environ=project.environ, codes=(0,))
            )
            for name, command in commands.items()
            if command[0] is not None
        }


def flood(bench: Bench) -> list[Measurement]:
    goals = (Goal("x aiohttp", 2.5), Goal("CPU a row", 0.4))
    return [_answers(bench, peers.Work("flood", bench.part(5_000), 200, 20), goals)]


def burst(bench: Bench) -> list[Measurement]:
    goals = (Goal("x aiohttp", 1.3),)
    return [_answers(bench, peers.Work("burst", bench.part(500), 50, 50), goals)]


def _answers(bench: Bench, work: peers.Work, goals: tuple[Goal, ...]) -> Measurement:
    project = bench.project(latency_ms=work.latency_ms)
    project.write_rows(work.count, work.width)
    usage = project.usage("run", FLOW)
    beside = bench.beside(
        project,
        aiohttp=peers.aiohttp_script(bench.programs, bench.server.address, work),
        own_client=peers.client_alone(bench.programs, bench.server.address, work),
    )
    words = f"{work.count:,} rows, {work.width} at a time, {work.latency_ms:g} ms"
    figures = figures_of(usage, rows=work.count, state=project.state())
    return Measurement(words, figures, goals, beside)


def files(bench: Bench) -> list[Measurement]:
    """Measure steps that save a file each, and what it takes to find them fresh."""
    count = bench.part(500)
    project = bench.project(latency_ms=50)
    project.write_steps(count, 50, files=True)
    first = project.usage("run", FLOW)
    state = project.state()
    again, locked = project.usage("run", FLOW), project.usage("run", FLOW, "--locked")
    beside = bench.beside(project, plain_Python=peers.plain_python(bench.programs))
    return [
        Measurement(
            f"{count:,} steps that save files, 50 at a time, 50 ms",
            figures_of(first, state=state),
            (Goal("wall", 1.2),),
        ),
        Measurement(f"{count:,} fresh", figures_of(again), (Goal("wall", 0.30),), beside),
        Measurement(f"{count:,} fresh, --locked", figures_of(locked), (Goal("wall", 0.22),)),
    ]


def long(bench: Bench) -> Iterator[Measurement]:
    goals = {
        "": (Goal("wall", 25), Goal("peak", 200), Goal("lock a row", 150)),
        "again": (Goal("wall", 5), Goal("peak", 200)),
        "--locked": (Goal("wall", 3), Goal("peak", 200)),
    }
    return _growing(bench, bench.part(50_000), goals)


def growth(bench: Bench) -> Iterator[Measurement]:
    """Measure ever more rows, for what each costs: it must stay the same."""
    for count in (1_000, 10_000, 100_000):
        yield from _growing(bench, bench.part(count), {})


def million(bench: Bench) -> Iterator[Measurement]:
    return _growing(bench, bench.part(1_000_000), {"": (Goal("peak", 400),)})


def _growing(bench: Bench, count: int, goals: dict[str, tuple[Goal, ...]]) -> Iterator[Measurement]:
    """Measure a first run, a second and a locked one."""
    project = bench.project()
    project.write_rows(count, 100, more="outputs: {said: all}\n")
    project.configure(f"max_instances = {count}\n")
    for words, more in (("", ()), ("again", ()), ("--locked", ("--locked",))):
        figures = figures_of(project.usage("run", FLOW, *more), rows=count)
        if not words:
            lock = (project.folder / "a.lock.json").stat().st_size
            figures = {**figures, "state": project.state(), "lock a row": lock / count}
        work = f"{count:,} rows, 100 at a time, 0 ms{words and ', ' + words}"
        yield Measurement(work, figures, goals.get(words, ()))


def table(bench: Bench) -> list[Measurement]:
    """Measure what a large table costs before anything is asked."""
    count = bench.part(100_000)
    project = bench.project()
    project.write_rows(count, 50)
    goals = (Goal("wall", 4), Goal("peak", 120))
    return [
        Measurement(f"{words}, csv of {count:,} rows", figures_of(project.usage(*command)), goal)
        for words, command, goal in (
            ("plan", ("plan", FLOW), goals),
            ("status", ("status", FLOW), goals),
            ("run --first 3", ("run", FLOW, "--first", "3"), (Goal("wall", 0.5),)),
        )
    ]


def steps(bench: Bench) -> list[Measurement]:
    count = bench.part(5_000)
    project = bench.project()
    project.write_steps(count, 50, files=False)
    return [
        Measurement(f"{words}, {count:,} steps", figures_of(project.usage(*command)), (goal,))
        for words, command, goal in (
            ("plan", ("plan", FLOW), Goal("wall", 1.5)),
            ("first run", ("run", FLOW), Goal("wall", 6)),
            ("rerun", ("run", FLOW), Goal("wall", 2)),
        )
    ]


def large(bench: Bench) -> list[Measurement]:
    """Measure one answer of 25 MiB, in pieces of 4 kB."""
    pieces = bench.part(6_400)
    project = bench.project(chunks=pieces, chunk_bytes=4_096)
    project.write_steps(1, 50, files=False)
    usage = project.usage("run", FLOW)
    figures = figures_of(usage, state=project.state())
    words = f"answer of {pieces * 4_096 / 2**20:.1f} MiB"
    return [Measurement(words, figures, (Goal("peak", 120), Goal("state", 30)))]


def cold(bench: Bench) -> list[Measurement]:
    project = bench.project()
    project.write_steps(1, 50, files=False)
    usage = project.usage("run", FLOW)
    script = peers.httpx_script(bench.programs, bench.server.address)
    beside = bench.beside(project, httpx=script)
    return [Measurement("one prompt, cold", figures_of(usage), (Goal("x httpx", 1.3),), beside)]


def attachment(bench: Bench) -> list[Measurement]:
    project = bench.project()
    step = "  s: {prompt: Sum up., attachments: [{path: a.pdf, as: file}]}\n"
    project.write(FLOW, HEAD % 50 + step)
    with (project.folder / "a.pdf").open("wb") as file:
        for _ in range(20):
            file.write(b"%PDF-1.7\n".ljust(1 << 20, b"\xa7"))
    usage = project.usage("run", FLOW)
    work = peers.Work("attach", 1, 1, 0)
    own = peers.client_alone(bench.programs, bench.server.address, work)
    goals = (Goal("wall", 0.40), Goal("peak", 45))
    beside = bench.beside(project, own_client=own)
    return [Measurement("20 MB attachment", figures_of(usage), goals, beside)]


def check(bench: Bench) -> list[Measurement]:
    count = bench.part(1_000)
    project = bench.project()
    step = '  s%d: {prompt: "{{ steps.first.text }}, %d", output: {save: "FLOW/%d.md"}}\n'
    text = "".join((HEAD % 50, "  first: {prompt: begin}\n", *(step % (n, n, n) for n in range(8))))
    flows = [
        project.write(f"flows/{n}.yaml", text.replace("FLOW", f"out/{n}")) for n in range(count)
    ]
    usage = project.usage("check")
    beside = bench.beside(project, check_jsonschema=peers.check_jsonschema(bench.programs, flows))
    return [Measurement(f"check {count:,} flows", figures_of(usage), (Goal("wall", 1.5),), beside)]


def watch(bench: Bench) -> list[Measurement]:
    """Measure the time from a save to its request: its own step's, and that of one for all."""
    count = bench.part(200)
    each = "".join(f"  s{n}: {{prompt: {{file: data/{n}.md}}}}\n" for n in range(count))
    all_ = """  all: {prompt: "{% for one in glob('data/*.md') %}{{ read(one) }} {% endfor %}"}\n"""
    found = []
    for words, text in ((f"{count} steps, a file each", each), (f"one step, {count} files", all_)):
        project = bench.project()
        project.write(FLOW, HEAD % 50 + text)
        data = [project.write(f"data/{n}.md", f"text {n}") for n in range(count)]
        times = latencies(project, bench.server, data, bench.part(20))
        figures = {"median": statistics.median(times), "most": max(times)}
        found.append(Measurement(f"save to request, {words}", figures, (Goal("median", 0.10),)))
    return found


Row = Callable[[Bench], Iterable[Measurement]]
ROWS: dict[str, Row] = {
    "flood": flood,
    "burst": burst,
    "files": files,
    "long": long,
    "table": table,
    "steps": steps,
    "large": large,
    "cold": cold,
    "attachment": attachment,
    "check": check,
    "watch": watch,
    "growth": growth,
    "million": million,
}
LONG = frozenset({"long", "growth", "million"})
"""Rows that are measured once, however many rounds the others have."""
ASKED_FOR = frozenset({"million"})
"""Rows that are measured only when they are named."""
