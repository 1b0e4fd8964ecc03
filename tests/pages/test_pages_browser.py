"""The pages in a real browser: what is seen, what is not run, not fetched, not lost."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, async_playwright
from view_runs import asked, bad_run, good_run, keep, large_run, run_record, shown, unfinished_run

from poeflow.cli.commands.report import html_report
from poeflow.records import RunEnd
from poeflow.report.pages.site import serve
from poeflow.store.history import History

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium; .ci/run installs it"),
]


@dataclass
class Seen:
    """A page of a browser, and all that went wrong or out while it was open."""

    page: Page
    root: str
    said: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    async def open(self, place: str) -> Page:
        await self.page.goto(self.root + place)
        return self.page


@contextlib.asynccontextmanager
async def browser(root: str, **options) -> AsyncIterator[Seen]:
    """Open a browser; afterwards it must have been quiet and have asked this machine alone."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        context = await chromium.new_context(**options)
        seen = Seen(await context.new_page(), root)
        seen.page.on("console", lambda message: seen.said.append(message.text))
        seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
        seen.page.on("dialog", lambda dialog: seen.said.append(dialog.message))
        seen.page.on("request", lambda request: seen.asked.add(request.url))
        yield seen
        assert await seen.page.evaluate("window.__hacked") is None
        await chromium.close()
    assert seen.said == []
    assert {urlsplit(url).hostname for url in seen.asked} <= {urlsplit(root).hostname}


@pytest.fixture
def history(tmp_path):
    (tmp_path / ".poeflow").mkdir()
    with History(tmp_path / ".poeflow/poeflow.db", warn=pytest.fail) as made:
        good_run(made, tmp_path)
        bad_run(made)
        good_run(made, tmp_path, second=True)
        yield made


async def texts(page: Page, selector: str) -> list[str]:
    return [" ".join(text.split()) for text in await page.locator(selector).all_text_contents()]


async def test_runs_are_listed_filtered_and_opened(history, tmp_path):
    async with serve(shown(history, tmp_path)) as serving, browser(serving.address) as seen:
        page = await seen.open("")
        assert await page.title() == "runs · poeflow"
        assert await texts(page, "tbody th a") == ["notes", "hostile", "notes"]
        await page.get_by_label("result").select_option("failed")
        await page.get_by_role("button", name="Show").click()
        assert await texts(page, "tbody th a") == ["hostile"]
        await page.get_by_label("search prompts and answers").fill("quarter weight")
        await page.get_by_label("result").select_option("")
        await page.keyboard.press("Tab")
        await page.get_by_role("button", name="Show").press("Enter")
        assert await texts(page, "tbody th a") == ["notes", "notes"]
        await page.get_by_role("link", name="notes").first.click()
        assert await texts(page, "h1") == ["notes ok"]
        await page.get_by_role("link", name="compare with run 1").click()
        assert await texts(page, "del") == ["three", "0.3", "12", "pocket"]
        assert await texts(page, "ins") == ["five", "0.7", "14", "fold"]


async def test_a_run_leads_to_its_instances_with_pictures(history, tmp_path):
    async with serve(shown(history, tmp_path)) as serving, browser(serving.address) as seen:
        page = await seen.open("runs/1")
        assert await texts(page, ".graph .name") == ["collect", "draft", "judge", "tone", "index"]
        judged = {"dry": 0.15, "formal": 0.25, "warm": 0.35}
        means = [f"{tone} 2 of 2 passed score {score}" for tone, score in judged.items()]
        assert await texts(page, ".grid thead th") == ["model ↓ tone →", *means]
        scores = ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]
        assert await texts(page, ".cell .score") == [f"score {score}" for score in scores]
        await page.locator(".graph a", has_text="draft").click()
        assert await texts(page, "h1") == ["draft asked"]
        pictures = await page.locator("img").all()
        for picture in pictures:
            await picture.evaluate("image => image.decode()")
        assert [await one.evaluate("image => image.naturalWidth") for one in pictures] == [48] * 3
        raw = page.locator("#raw")
        assert await raw.locator("pre").is_hidden()
        await raw.locator("summary").click()
        assert "**hold hands**" in await raw.locator("pre").inner_text()


PLACES = ["", "runs/2", "runs/2/1", "runs/2/2", "runs/2/3", "runs/2/1/text", "compare?a=1&b=2"]


async def test_hostile_answers_are_inert(history, tmp_path):
    async with serve(shown(history, tmp_path)) as serving, browser(serving.address) as seen:
        for place in PLACES:
            page = await seen.open(place)
            assert await page.evaluate("window.__hacked") is None
            assert await page.evaluate("document.scripts.length") == (0 if "text" in place else 1)
        page = await seen.open("runs/2/1")
        assert await page.evaluate("document.images.length") == 0
        assert "<script>window.__hacked = 1</script>" in await page.locator(".prose").inner_text()


async def test_a_page_needs_no_script(history, tmp_path):
    options = {"java_script_enabled": False}
    async with (
        serve(shown(history, tmp_path)) as serving,
        browser(serving.address, **options) as seen,
    ):
        page = await seen.open("runs/1/2")
        assert await texts(page, ".prose h2") == ["Otters in spring"]
        await page.locator("#reasoning summary").click()
        assert await page.locator("#reasoning pre").is_visible()


OVERLAPS = """() => {
  const texts = [...document.querySelectorAll(".scale text")]
  const seen = texts.map((one) => one.getBoundingClientRect()).filter((box) => box.width)
  return seen.filter((box, at) => at && seen[at - 1].right >= box.left).length
}"""
"""How many times on the scale of a run are written over others."""


async def test_a_phone_never_scrolls_sideways(history, tmp_path):
    large_run(history, 300)
    unfinished_run(history)
    quick = RunEnd(exit_code=0, seconds=0.12, asked=1, requests=1, tokens=908)
    keep(history, run_record(name="quick"), [asked("draft", "One.", began=0, seconds=0.1)], quick)
    phone = {"viewport": {"width": 375, "height": 700}, "color_scheme": "dark"}
    places = [*PLACES[:5], "runs/1", "runs/1/2", "runs/1/steps/4", "runs/4",
              "runs/4/steps/2?page=2", "runs/5", "runs/6", "compare?a=1&b=3"]  # fmt: skip
    async with (
        serve(shown(history, tmp_path)) as serving,
        browser(serving.address, **phone) as seen,
    ):
        for place in places:
            page = await seen.open(place)
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert (place, width) == (place, 375)
            assert await page.evaluate(OVERLAPS) == 0
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        assert await page.evaluate(ground) == "rgb(18, 19, 21)"
        await page.emulate_media(color_scheme="light")
        assert await page.evaluate(ground) == "rgb(248, 248, 246)"


async def test_a_page_is_walked_by_keyboard(history, tmp_path):
    async with serve(shown(history, tmp_path)) as serving, browser(serving.address) as seen:
        page = await seen.open("runs/1")
        reached = []
        for _ in range(40):
            await page.keyboard.press("Tab")
            reached.append(
                await page.evaluate(
                    "(e => e.getAttribute('href') || e.id || e.localName)(document.activeElement)"
                )
            )
        root = serving.root
        assert reached[:3] == ["#main", f"{root}/", f"{root}/"]
        instances = {f"{root}/runs/1/{number}" for number in range(1, 11)}
        assert instances | {"graph", "grid-4"} <= set(reached)


async def test_an_open_page_follows_a_run_and_stays_as_it_is(history, tmp_path):
    async with serve(shown(history, tmp_path)) as serving, browser(serving.address) as seen:
        page = await seen.open("")
        await page.get_by_text("live", exact=True).wait_for()
        recorder = history.begin(run_record("slow"))
        await page.get_by_role("link", name="slow").click()
        await page.get_by_text("live", exact=True).wait_for()
        recorder.instance(asked("draft", "One answer so far."))
        await page.get_by_text("One answer so far.").wait_for()
        await page.locator("#inputs summary").click()
        await page.locator("#other").fill("17")
        await page.locator("#inputs summary").focus()
        recorder.instance(asked("judge", "The second answer."))
        await page.get_by_text("The second answer.").wait_for()
        assert await page.locator("#inputs").get_attribute("open") is not None
        assert await page.locator("#other").input_value() == "17"
        focused = "document.activeElement.parentElement.id"
        assert await page.evaluate(focused) == "inputs"
        recorder.ended(RunEnd(exit_code=0, seconds=9.0, asked=2))
        await page.locator("h1").get_by_text("ok", exact=True).wait_for()
        assert await page.locator("#news").inner_text() == ""


async def test_a_report_is_a_page_by_itself(history, tmp_path):
    target = tmp_path / "run.html"
    async with browser(tmp_path.as_uri()) as seen:
        for number in (1, 2):
            target.write_bytes(b"".join(html_report(history.run(number), shown(history, tmp_path))))
            page = await seen.open("/run.html")
            await page.locator("#step-2 summary").first.click()
            assert await page.locator("#step-2 .answer").is_visible()
            is_styled = "getComputedStyle(document.querySelector('.badge')).borderRadius"
            assert await page.evaluate(is_styled) == "99px"
            assert await page.evaluate("window.__hacked") is None
    others = {url for url in seen.asked if not url.startswith("data:image/png;")}
    assert others == {target.as_uri()}
