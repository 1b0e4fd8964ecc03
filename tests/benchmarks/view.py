"""How long the pages take of a run of many instances: the server alone, and in a browser.

`python tests/benchmarks/view.py` prints a line for each; `--instances` and `--rounds` choose.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.async_api import async_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "view"))

from view_runs import large_run, shown
from view_served import ask

from poeflow.cli.commands.report import html_report
from poeflow.report.pages.site import serve
from poeflow.store.history import History

PAGES = {
    "the list": "",
    "the run": "runs/1",
    "its step": "runs/1/steps/2",
    "an instance": "runs/1/9",
    "itself compared": "compare?a=1&b=1",
}


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def told(name: str, work: Callable[[], int], rounds: int) -> None:
    times = []
    size = 0
    for _ in range(rounds):
        began = time.perf_counter()
        size = work()
        times.append(time.perf_counter() - began)
    tell(f"{name:<24} {statistics.median(times) * 1000:7.0f} ms  {size / 1000:8.0f} kB")


async def main(instances: int, rounds: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="poeflow-bench-") as name,
        History(Path(name) / "poeflow.db", warn=tell) as history,
    ):
        large_run(history, instances)
        what = shown(history, Path(name))
        tell(f"a run of {instances:,} instances, medians of {rounds}")
        async with serve(what) as serving:
            for page, place in PAGES.items():
                address = serving.address + place
                await asyncio.to_thread(
                    told, f"{page}, served", lambda at=address: len(ask(at).body), rounds
                )
            await in_browser(serving.address, rounds)
        row = history.run(1)
        if row is not None:
            told("report", lambda: sum(map(len, html_report(row, what))), rounds)


async def in_browser(address: str, rounds: int) -> None:
    """Tell the time from asking for a page until all of it is drawn."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        return
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = await chromium.new_page()
        for name, place in PAGES.items():
            times = []
            for _ in range(rounds):
                began = time.perf_counter()
                await page.goto(address + place, wait_until="load")
                await page.evaluate("new Promise(requestAnimationFrame)")
                times.append(time.perf_counter() - began)
            tell(f"{name + ', in a browser':<24} {statistics.median(times) * 1000:7.0f} ms")
        await chromium.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--instances", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=7)
    given = options.parse_args()
    asyncio.run(main(given.instances, given.rounds))
