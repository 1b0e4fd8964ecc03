"""What a look, and a second run, find of the rows of a table."""

from poeflow.store.database_file import RowReader

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\n"
LOOP = "for_each: {file: rows.csv, key: item.id}"
FLOW = f'{HEAD}steps:\n  say:\n    {LOOP}\n    prompt: "say {{{{ item.word }}}}"\n'
SAVING = f'{FLOW}    output: {{save: "out/{{{{ key }}}}.md"}}\n'
COUNT = 250
NEW = ("new", ("the lock does not have it",))


def write_rows(bench, word=lambda number: f"word {number}") -> None:
    lines = "".join(f"{number},{word(number)}\n" for number in range(COUNT))
    bench.write("rows.csv", f"id,word\n{lines}")


def test_rows_that_were_never_asked_are_new(bench):
    write_rows(bench)
    assert bench.states(FLOW) == {f"say[{number}]": NEW for number in range(COUNT)}
    found = bench.statuses(FLOW)
    assert {(one.calls, one.most_calls, one.model) for one in found} == {(1, 1, "GPT-5.2")}
    said = [one.request["body"]["messages"][-1]["content"] for one in found]
    assert said == [f"say word {number}" for number in range(COUNT)]
    assert found[0].kinds is found[9].kinds, "requests that are alike are described once"


def test_rows_with_stored_answers_are_found_among_others(bench):
    write_rows(bench)
    bench.run(FLOW, first=3)
    (bench.folder / "a.lock.json").unlink()
    states = bench.states(FLOW)
    cached = ("new", ("the lock does not have it", "its answer is in the cache"))
    assert [states[f"say[{number}]"] for number in range(5)] == [cached] * 3 + [NEW] * 2


def test_rows_that_changed_are_stale_among_fresh_ones(bench):
    write_rows(bench)
    bench.run(FLOW)
    write_rows(bench, lambda number: f"{'other' if number % 100 == 7 else 'word'} {number}")
    states = bench.states(FLOW)
    changed = {name: state for name, state in states.items() if state != ("fresh", ())}
    stale = ("stale", ("item changed",))
    assert changed == {f"say[{number}]": stale for number in (7, 107, 207)}
    assert len(states) == COUNT
    assert bench.run(FLOW).exit_code == 0
    assert len(bench.prompts()) == COUNT + 3
    assert bench.prompts()[COUNT:] == ["say other 7", "say other 107", "say other 207"]


def test_a_file_in_the_way_of_a_row_is_found(bench):
    write_rows(bench)
    bench.write("out/7.md", "mine\n")
    states = bench.states(SAVING)
    assert states.pop("say[7]")[0] == "edited"
    assert set(states.values()) == {NEW}


def test_a_row_whose_prompt_is_blank_is_told(bench):
    write_rows(bench)
    flow = FLOW.replace("say {{ item.word }}", "{{ item.word if item.id != '7' }}")
    states = bench.states(flow)
    assert states.pop("say[7]") == ("stale", ("the prompt is blank",))
    assert set(states.values()) == {NEW}


def test_fresh_rows_need_no_request_and_are_shown(bench):
    write_rows(bench)
    first = bench.run(FLOW)
    again = bench.run(FLOW)
    assert (again.outputs, len(bench.prompts())) == (first.outputs, COUNT)
    assert bench.locked() == []


def test_rows_that_are_left_out_keep_their_results(bench):
    write_rows(bench)
    bench.run(FLOW)
    before = (bench.folder / "a.lock.json").read_bytes()
    assert bench.run(FLOW, first=2).exit_code == 0
    assert bench.run(FLOW, key="1?5").exit_code == 0
    assert (bench.folder / "a.lock.json").read_bytes() == before
    assert len(bench.prompts()) == COUNT


def test_a_row_that_is_taken_from_the_store_begins_only_for_who_hears_all(bench):
    write_rows(bench)
    bench.run(FLOW)

    def kinds(**options) -> list[str]:
        bench.run(FLOW, first=2, **options)
        names = [type(event).__name__ for event in bench.events]
        return [name for name in names if name not in ("RunStarted", "StepExpanded", "RunFinished")]

    assert kinds() == ["StepStarted", "StepFinished"] * 2
    assert kinds(hears_text=False) == ["StepFinished"] * 2


def test_stored_answers_are_read_many_at_a_time(bench, monkeypatch):
    write_rows(bench)
    bench.run(FLOW)
    reads: list[str] = []
    rows = RowReader.rows

    def counted(reader, sql, *arguments, **options):
        reads.append(sql)
        return rows(reader, sql, *arguments, **options)

    monkeypatch.setattr(RowReader, "rows", counted)
    found = bench.run(FLOW)
    assert (found.exit_code, len(bench.prompts())) == (0, COUNT)
    assert sum("contents" in sql for sql in reads) <= COUNT // 10
