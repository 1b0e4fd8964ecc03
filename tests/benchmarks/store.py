"""The store alone: pairs of a request and an answer, written as a run writes them, each awaited.

`python tests/benchmarks/store.py` prints a line for each measurement; `--pairs`, `--concurrency`,
`--latency` and `--kills` choose. With `--journal wal` it is measured as a fixed SQLite has it.
"""

import argparse
import asyncio
import contextlib
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from poeflow.digest import sha256_of
from poeflow.records import AnswerRecord, InstanceRecord, RequestRecord, RunFilter, RunRecord
from poeflow.store.cache import Cache
from poeflow.store.database_file import JOURNAL
from poeflow.store.history import History
from poeflow.store.writer import StoreWriter

RUN = RunRecord(flow="//a.yaml", name="a", started=1.0, simulated=False, version="1")


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def request(number: int) -> dict:
    messages = [{"role": "user", "content": f"say word {number} in as few words as there are"}]
    body = {"model": "GPT-5.2", "messages": messages, "stream": True, "temperature": 0.3}
    return {"provider": "poe", "body": body}


def answer(number: int, size: int = 0) -> dict:
    text = f"word {number}, said in as few words as there are" + "x" * size
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 20, "completion_tokens": 12, "total_tokens": 32}
    return {"id": f"chatcmpl-{number}", "model": "GPT-5.2", "choices": [choice], "usage": usage}


async def pairs(path: Path, journal: str, chosen: argparse.Namespace) -> StoreWriter:
    """Write a run: look up, request, wait, answer, instance; so many at a time."""
    store = StoreWriter(path, journal=journal)
    cache = Cache(path.parent / "cache", store, on_corrupt=sys.exit)
    recorder = History(path, warn=sys.exit, store=store).begin(RUN)
    slots = asyncio.Semaphore(chosen.concurrency)

    async def pair(number: int) -> None:
        async with slots:
            asked, given = request(number), answer(number)
            fingerprint = sha256_of(b"%d" % number)
            if cache.entry(fingerprint) is not None:
                return
            record = RequestRecord(
                instance=f"say[{number}]",
                fingerprint=fingerprint,
                provider="poe",
                model="GPT-5.2",
                began=0.5,
                request=asked,
            )
            sent = await recorder.requested(record)
            await asyncio.sleep(chosen.latency)
            await cache.store(fingerprint, given, request=asked)
            recorder.answered(sent, AnswerRecord(ended=1.0), stored=fingerprint)
            text = given["choices"][0]["message"]["content"]
            recorder.instance(
                InstanceRecord(
                    id=f"say[{number}]",
                    step="say",
                    status="ok",
                    source="asked",
                    fingerprint=fingerprint,
                    request=asked,
                    text=text,
                )
            )

    async with asyncio.TaskGroup() as group:
        for number in range(chosen.pairs):
            group.create_task(pair(number))
    store.close()
    return store


def measure(journal: str, chosen: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="poeflow-bench-") as name:
        path = Path(name) / "poeflow.db"
        began, cpu = time.perf_counter(), time.process_time()
        store = asyncio.run(pairs(path, journal, chosen))
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        size = path.stat().st_size
        tell(
            f"{chosen.pairs:,} pairs, {chosen.concurrency} at a time, journal {journal}:"
            f" {wall:.2f} s, CPU {used:.2f} s, {store.commits} commits, {size / 1e6:.1f} MB"
        )
        again = StoreWriter(path)
        cache = Cache(path.parent / "cache", again, on_corrupt=sys.exit)
        began, cpu = time.perf_counter(), time.process_time()
        found = sum(
            cache.entry(sha256_of(b"%d" % number)) is not None for number in range(chosen.pairs)
        )
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        tell(f"{found:,} answers looked up: {wall:.2f} s, CPU {used:.2f} s")


def large(mebibytes: int) -> None:
    """Tell what one large answer takes, in a process of its own."""
    code = LARGE.format(folder=str(Path(__file__).parent), size=mebibytes * 1024 * 1024)
    with tempfile.TemporaryDirectory(prefix="poeflow-bench-") as name:
        path = Path(name) / "poeflow.db"
        done = subprocess.run(
            [sys.executable, "-c", code, path], check=True, capture_output=True, text=True
        )
        tell(f"an answer of {mebibytes} MiB: {done.stdout.strip()}")


LARGE = """
import asyncio, random, resource, sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
from store import Cache, StoreWriter, answer, sha256_of
text = random.Random(1).randbytes({size} // 2).hex()
given = answer(1)
given["choices"][0]["message"]["content"] = text
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
path = Path(sys.argv[1])
store = StoreWriter(path)
cache = Cache(path.parent / "cache", store, on_corrupt=sys.exit)
began = time.perf_counter()
asyncio.run(cache.store(sha256_of(b"1"), given))
store.close()
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"{{time.perf_counter() - began:.2f}} s, peak {{before // 1024}} MB before,"
      f" {{after // 1024}} MB after, {{path.stat().st_size / 1e6:.1f}} MB of state")
"""
WORKER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from store import Cache, History, RUN, RequestRecord, StoreWriter, answer, request, sha256_of

path, journal, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = StoreWriter(path, journal=journal)
cache = Cache(path.parent / "cache", store, on_corrupt=sys.exit)
recorder = History(path, warn=sys.exit, store=store).begin(RUN)

async def work(number):
    while True:
        fingerprint = sha256_of(b"%d" % number)
        record = RequestRecord(
            instance=f"s[{number}]", fingerprint=fingerprint, provider="poe", model="A", began=0.0,
            request=request(number),
        )
        await recorder.requested(record)
        print("requested", number, flush=True)
        await cache.store(fingerprint, answer(number, number % 3000), request=request(number))
        print("stored", number, flush=True)
        number += 20

async def main():
    await asyncio.gather(*(work(first + lane) for lane in range(20)))

asyncio.run(main())
"""


def kills(journal: str, count: int) -> list[str]:
    """Kill a writer at random moments; return what it had acknowledged and is not there."""
    dice = random.Random(1)
    lost: list[str] = []
    with tempfile.TemporaryDirectory(prefix="poeflow-bench-") as name:
        path = Path(name) / "poeflow.db"
        said: list[str] = []
        for turn in range(count):
            command = [sys.executable, "-c", WORKER, path, journal, str(turn * 100_000)]
            with subprocess.Popen(
                [*map(str, command), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
            ) as worker:
                assert worker.stdout is not None
                said.append(worker.stdout.readline().strip())
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.wait(timeout=dice.uniform(0.0, 0.4))
                os.kill(worker.pid, signal.SIGKILL)
                lines = worker.stdout.read()
                said += lines[: lines.rfind("\n") + 1].splitlines()
        store = StoreWriter(path, journal=journal)
        cache = Cache(path.parent / "cache", store, on_corrupt=lost.append)
        history = History(path, warn=lost.append)
        sent = {
            row.record.fingerprint
            for run in history.runs(RunFilter(limit=count))
            for row in history.requests(run.id)
        }
        for line in said:
            kind, _, number = line.partition(" ")
            fingerprint = sha256_of(number.encode())
            expected = answer(int(number), int(number) % 3000)
            entry = cache.entry(fingerprint)
            is_kept = entry is not None and entry.answer == expected
            is_there = fingerprint in sent if kind == "requested" else is_kept
            if not is_there:
                lost.append(line)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (check,) = connection.execute("PRAGMA integrity_check").fetchone()
        if check != "ok":
            lost.append(check)
    tell(f"journal {journal}, {count} kills: {len(said):,} acknowledged, {len(lost)} lost")
    return lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--large", type=int, default=25)
    parser.add_argument("--journal", choices=["wal", "delete"], default=JOURNAL)
    chosen = parser.parse_args()
    if chosen.pairs:
        measure(chosen.journal, chosen)
    if chosen.large:
        large(chosen.large)
    if chosen.kills:
        kills(chosen.journal, chosen.kills)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    tell(f"peak of this process: {peak} MB")


if __name__ == "__main__":
    main()
