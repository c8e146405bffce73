import csv
import datetime
import json

import pytest

from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.files import iter_references, read_references, read_table
from mentor_pl.reference import Reference

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOL = {"type": "function", "function": {"name": "add", "description": "Add.", "parameters": {"type": "object"}}}
ROWS = [
    {
        "id": f"r{number}",
        "messages": [
            {"role": "user", "content": "1 + 2?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
            {"role": "assistant", "content": "\\boxed{3}"},
        ],
        "answer": "3",
        "tools": [TOOL],
        "level": "easy",
    }
    for number in range(3)
]


def jsonl(folder):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def array(folder):
    path = folder / "rows.json"
    path.write_text(json.dumps(ROWS, indent=1))
    return path


def lines_called_json(folder):
    return jsonl(folder).rename(folder / "lines.json")


def table(folder, suffix=".csv", delimiter=","):
    path = folder / f"rows{suffix}"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows({name: v if isinstance(v, str) else json.dumps(v) for name, v in row.items()} for row in ROWS)
    return path


def parquet(folder):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    files.write_table(pa.Table.from_pylist(ROWS), folder / "rows.parquet")
    return folder / "rows.parquet"


def hub_folder(folder):
    pytest.importorskip("datasets")
    parquet(folder)
    return f"hf:{folder}"


def saved_data_set(folder):
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(folder / "saved"))
    return f"hf:{folder}/saved?split=test"


@pytest.mark.parametrize(
    "write",
    [jsonl, array, lines_called_json, table, lambda f: table(f, ".tsv", "\t"), parquet, hub_folder, saved_data_set],
)
def test_references_are_the_same_in_whatever_form_they_lie_about(tmp_path, write):
    expected = read_references(jsonl(tmp_path))
    assert len(expected) == 3
    (tmp_path / "rows.jsonl").unlink()
    found = read_references(write(tmp_path))
    assert found == expected
    assert isinstance(found[0], Reference)
    assert found[0].fields == {"level": "easy"}


def test_each_row_has_its_place_and_a_bad_one_costs_only_itself(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([ROWS[0], 5, ROWS[1]]))
    places = [(where, isinstance(row, DataFileError)) for where, row in read_table(path)]
    assert places == [(f"{path}:1", False), (f"{path}:2", True), (f"{path}:3", False)]
    assert [r.reference_id for r in iter_references(path, max_bad_lines=1)] == ["r0", "r1"]
    with pytest.raises(DataFileError, match=r"rows.json:2: expected an object in the array, found int"):
        read_references(path)


def test_cells_that_json_does_not_know(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    day = datetime.date(2024, 5, 1)
    rows = [
        {"day": day, "x": float("nan"), "inner": {"a": 1, "b": None}, "raw": None},
        {"day": day, "x": 1.5, "inner": {"a": None, "b": [2]}, "raw": b"\xff"},
        {"day": day, "x": float("inf"), "inner": None, "raw": None},
    ]
    files.write_table(pa.Table.from_pylist(rows), tmp_path / "odd.parquet")
    first, second, third = (row for _, row in read_table(tmp_path / "odd.parquet"))
    assert first == {"day": "2024-05-01", "inner": {"a": 1}}
    assert isinstance(second, DataFileError) and "found a bytes" in str(second)
    assert isinstance(third, DataFileError) and "found an infinity" in str(third)


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "none.jsonl", "none.json"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(DataFileError, match=f"{name}: cannot be read"):
        list(read_table(tmp_path / name))


def test_a_data_set_that_is_not_there_and_options_that_are_none(tmp_path):
    pytest.importorskip("datasets")
    with pytest.raises(DataFileError, match=r"hf:.*nowhere: cannot be loaded .*check name and split"):
        list(read_table(f"hf:{tmp_path}/nowhere"))
    with pytest.raises(DataFileError, match=r"hf:./nowhere: cannot be loaded \(there is no folder ./nowhere\)"):
        list(read_table("hf:./nowhere"))
    with pytest.raises(ConfigError, match="'rows' is no option of a data set; the options are split and config"):
        list(read_table("hf:owner/name?rows=3"))
