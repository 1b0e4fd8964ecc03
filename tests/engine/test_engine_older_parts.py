"""A lock whose entries lack the parts of later versions proves all that it proved: none is paid."""

import shutil
from pathlib import Path

OLDER = Path(__file__).with_name("older_parts.lock.json")
"""What a poeflow wrote, for this flow, that knew nothing of the settings of judges and of items."""
FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  j:
    prompt: judged
    output: {save: j.txt}
    expect: [{judge: {rubric: good, model: Grok-4, threshold: 0}, level: warn}]
  x: {for_each: {in: [apple, pear], key: loop.index}, render: "{{ item }}"}
  all: {prompt: "{{ steps.x.all | length }}", output: {save: all.txt}}
"""
END = (
    " A small example explains it better than a long definition would. From here, the next step is"
    " to try it on one real case. This answer is simulated. "
)
WRITTEN = {
    "all.txt": f'Here is a first answer to "2".{END}[b387ad7a]\n',
    "j.txt": f'On "judged", in short:{END}[aadd3943]\n',
}


def clone(bench) -> None:
    shutil.rmtree(bench.folder / ".poeflow", ignore_errors=True)
    for name, text in WRITTEN.items():
        bench.write(f".poeflow/offline/{name}", text)
    bench.write(".poeflow/offline/a.lock.json", OLDER.read_bytes())


def test_it_proves_all(bench):
    clone(bench)
    assert set(bench.states(FLOW, offline=True).values()) == {("fresh", ())}
    assert bench.locked(offline=True) == []


def test_what_is_only_written_differently_is_not_asked_again(bench):
    clone(bench)
    assert bench.run(FLOW, offline=True).spent.requests == 0
    changed = FLOW.replace("prompt: judged", "prompt: \"{{ 'judged' }}\"")
    changed = changed.replace("{{ steps.x.all | length }}", "{{ steps.x.all|length }}")
    clone(bench)
    assert bench.run(changed, offline=True).spent.requests == 0
