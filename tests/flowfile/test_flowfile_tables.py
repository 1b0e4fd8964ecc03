"""Tables: each kind's rows as they are, and every fault with its file and line."""

import contextlib
import csv
import io
import json
import sys

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.flowfile.tables import (
    MAX_BYTES,
    MAX_CELLS,
    MAX_ROWS,
    MAX_TABLE_ROWS,
    ROW_SUFFIXES,
    parquet_rows,
    rows,
    table,
)
from poeflow.project.project import FileProblem

TABLE = [{"id": "1", "word": "cat"}, {"id": "2", "word": "dog"}]


def fault(data: bytes, name: str, read=rows) -> str:
    with pytest.raises(FileProblem) as caught:
        read(data, name=name)
    return str(caught.value)


@pytest.fixture
def parquet(tmp_path):
    """Return a function that gives the bytes of what a SELECT selects."""

    def written(select: str) -> bytes:
        path = tmp_path / "written.parquet"
        with duckdb.connect() as connection:
            connection.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")
        return path.read_bytes()

    return written


HALF = r"write both halves, as in \ud83d\ude00, or leave it out"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("//a.csv", b"id,word\n1,cat\n2,dog\n"),
        ("//a.CSV", b"\xef\xbb\xbfid, word \r\n1,cat\r\n\r\n2,dog"),
        ("//a.tsv", b"id\tword\n1\tcat\n2\tdog\n"),
        ("//a.jsonl", b'{"id": "1", "word": "cat"}\n\n {"id": "2", "word": "dog"}'),
        ("//a.ndjson", b'\xef\xbb\xbf{"id": "1", "word": "cat"}\r\n{"id": "2", "word": "dog"}\r\n'),
        ("//a.json", b'[{"id": "1", "word": "cat"},\n{"id": "2", "word": "dog"}]'),
        ("//a.yaml", b'- {id: "1", word: cat}\n- {id: "2", word: dog}\n'),
        ("//a.yml", b'- id: "1"\n  word: cat\n- id: "2"\n  word: dog\n'),
    ],
)
def test_every_kind_gives_the_same_rows(name, data):
    assert rows(data, name=name) == TABLE


def test_the_kinds_are_known_by_their_endings():
    assert ROW_SUFFIXES == (
        ".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".yaml", ".yml", ".parquet",
    )  # fmt: skip
    assert fault(b"a", "//notes.txt") == (
        "//notes.txt is not a table; "
        "use one of .csv, .tsv, .jsonl, .ndjson, .json, .yaml, .yml, .parquet"
    )


def test_cells_are_texts_with_whatever_stands_in_quotes():
    data = b'id,text\n007,"one, ""two""\r\nthree"\n,\n'
    assert rows(data, name="a.csv") == [
        {"id": "007", "text": 'one, "two"\nthree'},
        {"id": "", "text": ""},
    ]


def test_a_cell_may_be_long():
    text = "x" * 500_000
    assert rows(f"text\n{text}\n".encode(), name="a.csv") == [{"text": text}]


def test_a_header_alone_has_no_rows():
    assert rows(b"id,word\n", name="a.csv") == []


def test_rows_in_json_are_what_they_are_whole_numbers_exact():
    values = [2**63, -(2**63), 1.5, "a", None, True, [1], {"a": {"b": []}}]
    assert rows(json.dumps(values).encode(), name="a.json") == values
    lines = "\n".join(json.dumps(value) for value in values)
    assert rows(lines.encode(), name="a.jsonl") == values


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.csv", b"", "a.csv, line 1: there are no column names; begin with a line of them"),
        (
            "a.csv",
            b"\n1,2\n",
            "a.csv, line 1: there are no column names; begin with a line of them",
        ),
        ("a.csv", b"id,,word\n", "a.csv, line 1: column 2 has no name; give it one"),
        (
            "a.csv",
            b"id,word,id \n",
            'a.csv, line 1: two columns are called "id"; rename one of them',
        ),
        (
            "a.csv",
            b"id|word\n1|cat\n",
            "a.csv, line 1: columns are separated by |; save it with commas",
        ),
        (
            "a.csv",
            b"id;word\n1;cat\n2;cat;dog\n",
            (
                "a.csv, line 3: cells in this row: 3, columns: 2; "
                "put cells with the delimiter in them in quotes"
            ),
        ),
        (
            "a.csv",
            b"id;price\n1;3,5\n2;4,5;6\n",
            (
                "a.csv, line 3: cells in this row: 3, columns: 2; "
                "put cells with the delimiter in them in quotes"
            ),
        ),
        (
            "a.csv",
            b"id,word; name\n1;cat\n",
            (
                "a.csv, line 2: cells in this row: 1, columns: 2; "
                "add the others; an empty one is nothing between two delimiters"
            ),
        ),
        (
            "a.csv",
            b'id,word\n1,"cat\ndog"\n2\n',
            (
                "a.csv, line 4: cells in this row: 1, columns: 2; "
                "add the others; an empty one is nothing between two delimiters"
            ),
        ),
        (
            "a.tsv",
            b'id\tword\n1\t"cat\ndog"\t3\n',
            (
                "a.tsv, line 2: cells in this row: 3, columns: 2; "
                "put cells with the delimiter in them in quotes"
            ),
        ),
        (
            "a.csv",
            b'id\n1\n"cat\ndog',
            (
                "a.csv, line 3: unexpected end of data; "
                'inside a cell in quotes a quote is written twice: ""'
            ),
        ),
        (
            "a.csv",
            b'id\n"cat" dog\n',
            (
                "a.csv, line 2: ',' expected after '\"'; "
                'inside a cell in quotes a quote is written twice: ""'
            ),
        ),
        (
            "a.csv",
            b"id\n1\ncaf\xe9\n",
            "a.csv, line 3: byte 0xe9 is not UTF-8; save the file as UTF-8",
        ),
        ("a.csv", "id\n1\n".encode("utf-16"), "a.csv is UTF-16; save it as UTF-8"),
        ("a.csv", b"id\r\n\0\n", "a.csv, line 2: a NUL byte is in the file; save it as UTF-8 text"),
        (
            "a.jsonl",
            b'{"a": 1}\n\n{"a": }\n',
            "a.jsonl, line 3: not JSON: invalid character; write one JSON value per line",
        ),
        *(
            (name, before + written + after, f"{where}: {told} is half a character; {HALF}")
            for name, before, after, where in (
                ("a.jsonl", b'{"a": 1}\n{"a": "', b'"}\n', "a.jsonl, line 2"),
                ("a.json", b'[1,\n\n"', b'"\n]', "a.json, line 3"),
            )
            for written, told in (
                (rb"cut \ud83d", r"\ud83d"),
                (rb"\ud83dx\ude00", r"\ud83d"),
                (rb"\\\ud83d\n", r"\ud83d"),
                (rb"\ud83d\ude00\ude01", r"\ude01"),
            )
        ),
        (
            "a.jsonl",
            b'{"a": "\\ud83d", "b": }\n',
            (
                "a.jsonl, line 1: not JSON: unexpected end of escaped utf-16 surrogate pair; "
                "write one JSON value per line"
            ),
        ),
        (
            "a.jsonl",
            b"[" * 100_000,
            "a.jsonl, line 1: it is nested too deep; write one JSON value per line",
        ),
        (
            "a.json",
            b"[1,\n\n x]",
            (
                "a.json, line 3: not JSON: invalid character; "
                "correct it, or write one row per line into a .jsonl"
            ),
        ),
        (
            "a.json",
            b"[1,\n",
            (
                "a.json, line 1: not JSON: input data was truncated; "
                "correct it, or write one row per line into a .jsonl"
            ),
        ),
        ("a.json", b'{"a": 1}', "a.json is not a list; write a list of rows"),
        ("a.yaml", b"a: 1\n", "a.yaml is not a list; write a list of rows"),
        ("a.yaml", b"", "a.yaml is not a list; write a list of rows"),
        ("a.yaml", b"- a\n- !!python/name:os x\n", None),
        ("a.yaml", b"- a\n- {b: 1, b: 2}\n", None),
    ],
)
def test_a_fault_says_where(name, data, told):
    found = fault(data, name)
    assert found == told if told is not None else found.startswith(f"{name}, line 2: ")
    assert fault(data, name, table) == found


def test_a_table_has_limits():
    row = b"1\n"
    assert len(rows(b"id\n" + row * MAX_ROWS, name="a.csv")) == MAX_ROWS
    too_many = "a.csv has over 100,000 rows; split the file"
    assert fault(b"id\n" + row * (MAX_ROWS + 1), "a.csv") == too_many
    assert fault(row * (MAX_ROWS + 1), "a.jsonl") == "a.jsonl has over 100,000 rows; split the file"
    assert fault(b" " * (MAX_BYTES + 1), "a.json") == (
        "a.json has 67,108,865 bytes; the limit is 64 MiB; split the file"
    )


def test_cells_are_counted():
    width = 2000
    header = ",".join(f"c{n}" for n in range(width))
    data = f"{header}\n" + ("," * (width - 1) + "\n") * (MAX_CELLS // width + 1)
    assert fault(data.encode(), "a.csv") == "a.csv has over 4,000,000 cells; split the file"


def test_parquet_gives_plain_data(parquet, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    select = """
        SELECT 9223372036854775807::BIGINT whole, 18446744073709551615::UBIGINT big, 1.5::FLOAT f,
        'nan'::DOUBLE nan, 1.50::DECIMAL(10, 2) price, true b, NULL::INTEGER "nothing",
        'x' AS "a ""b"" c", DATE '2024-02-03' AS d, TIMESTAMP '2024-02-03 04:05:06' AS moment,
        TIMESTAMPTZ '2024-02-03 04:05:06+02' AS zoned,
        {'at': [TIMESTAMPTZ '2024-02-03 04:05:06+02'], 'n': 1} AS nested,
        MAP {'k': 1.25::DECIMAL(4, 2)} AS m,
        'caf\\xC3\\xA9'::BLOB AS written, '\\xFF'::BLOB AS raw
    """
    assert rows(parquet(select), name="a.parquet") == [
        {
            "whole": 2**63 - 1,
            "big": 2**64 - 1,
            "f": 1.5,
            "nan": None,
            "price": "1.50",
            "b": True,
            "nothing": None,
            'a "b" c': "x",
            "d": "2024-02-03",
            "moment": "2024-02-03 04:05:06",
            "zoned": "2024-02-03 02:05:06+00",
            "nested": {"at": ["2024-02-03 02:05:06+00"], "n": 1},
            "m": {"k": "1.25"},
            "written": "café",
            "raw": "/w==",
        }
    ]


def test_parquet_rows_keep_their_order_and_have_limits(parquet):
    assert rows(parquet("SELECT i FROM range(3000) t(i)"), name="a.parquet") == [
        {"i": i} for i in range(3000)
    ]
    data = parquet(f"SELECT 1 AS i FROM range({MAX_ROWS + 1})")
    assert fault(data, "a.parquet") == "a.parquet has over 100,000 rows; split the file"


def test_a_small_parquet_file_does_not_become_a_huge_table(parquet):
    data = parquet("SELECT repeat('x', 100000) AS a FROM range(3000)")
    assert len(data) < 100_000
    assert fault(data, "a.parquet") == "a.parquet holds over 268,435,456 characters; split the file"


@pytest.mark.parametrize("data", [b"", b"junk" * 100, b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_what_is_no_parquet_is_told_by_its_own_name(data):
    found = fault(data, "//data/a.parquet")
    assert found.startswith("//data/a.parquet cannot be read as parquet: ")
    assert "rows.parquet" not in found
    assert "\n" not in found


def test_parquet_needs_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert fault(b"PAR1", "a.parquet") == (
        "a.parquet: reading parquet needs duckdb; install poeflow[data]"
    )


def test_reading_parquet_leaves_nothing_behind(parquet, tmp_path, monkeypatch):
    data = parquet("SELECT 1 AS a")
    temporary = tmp_path / "o'clock"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert parquet_rows(data, name="a.parquet", limit=9) == [{"a": 1}]
    assert list(temporary.iterdir()) == []


@given(st.binary(max_size=200), st.sampled_from(ROW_SUFFIXES[:-1]))
def test_whatever_the_bytes_are_there_are_rows_or_a_fault(data, suffix):
    with contextlib.suppress(FileProblem):
        assert isinstance(rows(data, name=f"a{suffix}"), list)


cell = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


@given(st.lists(st.lists(cell, min_size=2, max_size=2), max_size=5))
def test_quoted_cells_come_back_as_they_were(table):
    lines = ["a,b", *(",".join('"' + c.replace('"', '""') + '"' for c in row) for row in table)]
    assert rows("\n".join(lines).encode(), name="a.csv") == [
        {"a": first, "b": second} for first, second in table
    ]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.jsonl", b'{"q": 1}\n\n {"q": 1, "q": 2}\n', 'line 3: the key "q" is here twice'),
        ("a.ndjson", b'{"a": [{"q": 1, "q": 1}]}', 'line 1: the key "q" is here twice'),
        (
            "a.json",
            b'[\n{"q": "]"},\n\n {"p": {\n"r": 1, "r": 2}}]',
            'line 4: the key "r" is here twice',
        ),
        (
            "a.json",
            b'[{"\\u0071": 1e9, "q": ' + b"9" * 30 + b"}]",
            'line 1: the key "q" is here twice',
        ),
    ],
)
def test_a_key_that_is_there_twice(name, data, told):
    assert fault(data, name) == f"{name}, {told}; remove one of them"


@given(st.lists(st.recursive(st.none() | st.integers() | st.text(), st.lists), max_size=5))
def test_keys_are_checked_in_any_list(values):
    for indent in (None, 2):
        assert rows(json.dumps(values, indent=indent).encode(), name="a.json") == values


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.csv", b"sep=,\nq,b\n1,2\n", "a.csv, line 1: sep=, is a line for Excel; remove it"),
        (
            "a.csv",
            b'\xef\xbb\xbf"sep=;"\r\nq;b\r\n',
            'a.csv, line 1: "sep=;" is a line for Excel; remove it',
        ),
        ("a.tsv", b"SEP=\t\r\nq\tb\r\n", "a.tsv, line 1: SEP=\t is a line for Excel; remove it"),
        (
            "a.tsv",
            b"id;word\n1;cat\n",
            "a.tsv, line 1: columns are separated by ;; save it with tabs",
        ),
        (
            "a.csv",
            b"id\tword\n1\tcat\n",
            "a.csv, line 1: columns are separated by tabs; save it with commas, or call it .tsv",
        ),
        (
            "a.tsv",
            b"id,word\n1,cat\n",
            "a.tsv, line 1: columns are separated by commas; save it with tabs, or call it .csv",
        ),
        (
            "a.csv",
            b"id,word,,\n1,cat,,\n",
            "a.csv, line 1: column 3 has no name; give it one, or remove the empty columns",
        ),
        (
            "a.csv",
            b"PK\x03\x04",
            "a.csv is a workbook or an archive; save it as CSV in UTF-8",
        ),
    ],
)
def test_what_a_spreadsheet_makes_of_a_table(name, data, told):
    assert fault(data, name) == told


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"id;price\r\n1;3,50\r\n\r\n2;4,00\r\n", [("1", "3,50"), ("2", "4,00")]),
        (b'"id";"price, in EUR"\n"1";"3\n4"\n2;"a;b"\n', [("1", "3\n4"), ("2", "a;b")]),
        (b"id;price\n\n1;3,50\n", [("1", "3,50")]),
        (b"id;price\n", []),
    ],
)
def test_columns_of_csv_may_be_separated_by_semicolons(data, found):
    assert [tuple(row.values()) for row in rows(data, name="a.csv")] == found
    assert [*table(data, name="a.csv")] == rows(data, name="a.csv")


def test_a_table_of_one_column_may_hold_what_divides_others():
    assert rows(b"text; or title\none\n", name="a.csv") == [{"text; or title": "one"}]
    assert rows(b"text\na, b\n", name="a.tsv") == [{"text": "a, b"}]


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@given(
    cells=st.lists(st.tuples(WORDS, WORDS), min_size=1), name=st.sampled_from(["a.csv", "a.tsv"])
)
def test_a_row_that_is_asked_for_is_the_one_read_in_order(cells, name):
    written = io.StringIO(newline="")
    writer = csv.writer(written, "excel-tab" if name == "a.tsv" else "excel")
    writer.writerows([("id", "word"), *cells])
    data = written.getvalue().encode()
    every, found = rows(data, name=name), table(data, name=name)
    assert list(found) == [found[at] for at in range(len(found))] == every
    assert list(found[::-1]) == every[::-1]
    for column in ("id", "word"):
        assert list(found.column(column)) == [row[column] for row in every]


@pytest.mark.parametrize("cell", ["x", "é", "x" * 4_000])
def test_rows_may_be_asked_for_in_any_order(cell):
    """Rows are read ahead where they are asked for in order, unless they are large."""
    count = 250
    data = "id,word\n" + "".join(f"{n},{cell}{n}\n" for n in range(count))
    found = table(data.encode(), name="a.csv")
    order = [*range(count), 7, *range(90, 120), *reversed(range(count)), -1]
    assert [found[at] for at in order] == [
        {"id": str(at % count), "word": f"{cell}{at % count}"} for at in order
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_rows_are_there_between_blank_lines(name):
    texts = {"a.jsonl": '\ufeff1\r\n\r\n\xa0\n{"a": [2]}\n\xa0\n', "a.json": '[1, {"a": [2]}]'}
    data = texts.get(name, '\r\na,"b\r\nc"\r\n\n1,2\r\n\r\n"x\n\ny",3').encode()
    if name == "a.csv":
        data = data.removeprefix(b"\r\n")
    found = table(data, name=name)
    assert [found[at] for at in range(len(found))] == list(found) == rows(data, name=name)
    assert len(found) == 2
    with pytest.raises(IndexError):
        found[2]


def test_a_column_ends_its_rows_at_line_feeds_only():
    data = 'id,word\n1,"a\nb"\n\n2,c\x85d\u2028e\x0b\n'.encode()
    assert list(table(data, name="a.csv").column("word")) == ["a\nb", "c\x85d\u2028e\x0b"]


def test_a_byte_that_is_no_text_is_found_wherever_it_is():
    rare = "\N{GRINNING FACE},x\n".encode() * 300_000
    at = "a.csv, line 300002: byte 0xff is not UTF-8; save the file as UTF-8"
    assert fault(b"id,word\n" + rare + b"\xff,x\n" + rare, "a.csv") == at


def test_a_table_that_is_read_row_by_row_has_more_of_them():
    data = b"id\n" + b"1\n" * MAX_TABLE_ROWS
    assert len(table(data, name="a.csv")) == MAX_TABLE_ROWS
    with pytest.raises(FileProblem, match=r"^a\.csv has over 1,000,000 rows; split the file$"):
        table(data + b"1\n", name="a.csv")
