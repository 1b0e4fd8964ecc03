"""Makes the screenshots of the pages: `python tests/pages/screenshots.py FOLDER`, with Chromium.

What is shown are made-up runs in a folder that is thrown away.
"""

import asyncio
import shutil
import sys
import tempfile
from datetime import UTC
from pathlib import Path

from playwright.async_api import Browser, async_playwright

sys.path.insert(0, str(Path(__file__).parent))

from view_runs import bad_run, good_run, large_run, shown, unfinished_run

from poeflow.report.pages.site import serve
from poeflow.store.history import History

PAGES = {
    "runs": "",
    "run": "runs/1",
    "instance": "runs/1/2",
    "matrix": "runs/1/steps/4",
    "compare": "compare?a=1&b=3",
    "large": "runs/4",
    "live": "runs/5",
    "hostile": "runs/2/1",
}
SIZES = {"wide": {"width": 1280, "height": 800}, "phone": {"width": 375, "height": 740}}
NAMES = ("chromium", "chromium-browser", "google-chrome")


async def main(target: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="poeflow-pictures-") as name,
        History(Path(name) / ".poeflow" / "poeflow.db", warn=sys.exit) as history,
    ):
        folder = Path(name)
        (folder / ".poeflow").mkdir()
        good_run(history, folder)
        bad_run(history)
        good_run(history, folder, second=True)
        large_run(history)
        unfinished_run(history)
        async with serve(shown(history, folder, zone=UTC)) as serving, async_playwright() as tool:
            path = next(filter(None, map(shutil.which, NAMES)))
            browser = await tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
            for theme in ("light", "dark"):
                for size in SIZES:
                    await take(browser, serving.address, target, theme, size)
            await browser.close()


async def take(browser: Browser, address: str, target: Path, theme: str, size: str) -> None:
    """Take a picture of every page in one theme and size."""
    scheme = "dark" if theme == "dark" else "light"
    context = await browser.new_context(viewport=SIZES[size], color_scheme=scheme)
    page = await context.new_page()
    for name, place in PAGES.items():
        await page.goto(address + place)
        await page.screenshot(path=target / f"{name}-{size}-{theme}.png")
    await context.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    made = Path(sys.argv[1])
    made.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(made))
