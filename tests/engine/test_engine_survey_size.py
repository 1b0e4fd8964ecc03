"""What a row of a large table costs `plan` and `status`, besides what they say of it."""

import cProfile
import pstats
import tracemalloc

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  say: {for_each: {file: rows.csv, key: item.id}, prompt: "say {{ item.word }}"}
"""


def look_at(bench, count: int) -> None:
    rows = "".join(f"{n},word {n}\n" for n in range(count))
    bench.write("rows.csv", f"id,word\n{rows}")
    found = bench.statuses(FLOW, holds_results=False)
    assert [one.id for one in found] == [f"say[{n}]" for n in range(count)]


def test_little_is_held_of_a_row_that_must_be_asked(bench):
    look_at(bench, 10)
    peaks = []
    for count in (1_000, 2_000):
        tracemalloc.start()
        look_at(bench, count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 1_000 < 400  # bytes, half of it for its status


def test_a_row_that_must_be_asked_takes_few_calls(bench):
    look_at(bench, 10)
    calls = []
    for count in (200, 400):
        profile = cProfile.Profile()
        profile.runcall(look_at, bench, count)
        calls.append(pstats.Stats(profile).total_calls)
    assert (calls[1] - calls[0]) / 200 < 160
