"""Makes the README's pictures: pages in a real browser, and a session in a real terminal.

`python tests/docs/pictures.py` writes them to `.github/pictures`; look at them before you commit.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pyte
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / ".github" / "pictures"
COMMAND = (sys.executable, "-m", "poeflow.cli.start")
BROWSER = "/usr/bin/chromium"
COLUMNS, ROWS = 96, 30


def project(folder: Path) -> None:
    """Put the example flows into a project, and run some of them twice with a change between."""
    shutil.copytree(ROOT / "flows", folder / "flows")
    (folder / "poeflow.toml").touch()
    notes = folder / "flows" / "release-notes.yaml"
    for _ in range(2):
        for name in ("translations", "compare-models", "triage", "release-notes"):
            command = [*COMMAND, "run", f"flows/{name}.yaml", "--offline"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
        notes.write_text(notes.read_text().replace("No jargon,", "No jargon at all,"))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Yield the address of the pages of a project."""
    command = [*COMMAND, "view", "--no-browser"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
        process.terminate()


def pages(folder: Path) -> None:
    """Take the pictures of the pages: light on a desk, dark on a phone."""
    with served(folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        desk = browser.new_page(viewport={"width": 1200, "height": 760})
        for name, path in (("run", "runs/2"), ("compare", "compare?a=4&b=8")):
            desk.goto(address + path)
            desk.screenshot(path=PICTURES / f"{name}.png")
        phone = browser.new_page(viewport={"width": 375, "height": 760}, color_scheme="dark")
        phone.goto(f"{address}runs/8")
        phone.screenshot(path=PICTURES / "phone.png")
        browser.close()


def session(folder: Path) -> str:
    """Return what a terminal shows of a session in which a template changed."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.Stream(screen)
    environ = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "LANG": "C.UTF-8"}
    environ.pop("CI", None)
    prompt = folder / "flows" / "prompts" / "review.md"
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], "watch", "flows/code-review.yaml", "--offline"],
        cwd=folder,
        env=environ,
        dimensions=(ROWS, COLUMNS),
        encoding="utf-8",
    )
    seen = ""
    child.expect(r"asked in .*\n")
    seen += child.before + child.after
    prompt.write_text(prompt.read_text() + "Name the line.\n")
    child.expect(r"session: .*\n")
    seen += child.before + child.after
    child.send("q")
    child.expect(pexpect.EOF)
    stream.feed(seen)
    return "\n".join(line.rstrip() for line in screen.display).strip("\n") + "\n"


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        project(Path(name))
        pages(Path(name))
        (PICTURES / "watch.txt").write_text(session(Path(name)))


if __name__ == "__main__":
    main()
