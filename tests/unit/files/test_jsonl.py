import os
import signal
import subprocess
import sys
import textwrap

import pytest

from mentor_pl.errors import DataFileError
from mentor_pl.files.jsonl import AppendWriter, write_rows
from mentor_pl.files.tables import read_rows


def rows_of(path, **options):
    return list(read_rows(path, lambda row, where: (where.rpartition(":")[2], row), **options))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": 1\n', "2: expected one JSON object, found Expecting ',' delimiter"),
        (b'{"a": 1', "the line has no end: was its writer stopped?"),
        (b"[1, 2]\n", "2: expected one JSON object, found list"),
        (b'{"a": NaN}\n', "2: expected one JSON object, found NaN is not JSON; write null or a number"),
        (b'{"a": "\xff"}\n', "2: expected UTF-8, found byte 0xff at column 8; save the file as UTF-8"),
        (b"[" * 100_000 + b"\n", "2: expected one JSON object, found"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"fine": 1}\n' + line)
    with pytest.raises(DataFileError) as failure:
        rows_of(path)
    assert str(failure.value).startswith(f"{path}:")
    assert message in str(failure.value)


def test_blank_lines_windows_ends_and_byte_order_mark_are_no_errors(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}\r\n')
    assert rows_of(path) == [("1", {"a": 1}), ("3", {"a": 2})]


def test_bad_lines_are_left_out_up_to_a_limit(tmp_path, caplog):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\nbad\n{"a": 3}\nworse\n')
    assert rows_of(path, max_bad_lines=2) == [("1", {"a": 1}), ("3", {"a": 3})]
    assert f"{path}: 2 bad lines left out: 2, 4" in caplog.text
    with pytest.raises(DataFileError, match=r"2 bad lines so far \(2, 4\), 1 allowed"):
        rows_of(path, max_bad_lines=1)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataFileError, match="nowhere.jsonl: cannot be read"):
        rows_of(tmp_path / "nowhere.jsonl")


def test_a_path_that_no_system_takes_is_named():
    with pytest.raises(DataFileError, match=r"^'a\\x00b': cannot be read \(embedded null byte\); check the path$"):
        rows_of("a\0b")


def test_lone_surrogates_round_trip(tmp_path):
    rows = [{"text": "half \ud800 pair"}, {"text": "whole \U0001f600 pair, ü"}]
    assert write_rows(tmp_path / "rows.jsonl", rows) == 2
    assert [row for _, row in rows_of(tmp_path / "rows.jsonl")] == rows


def test_a_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"a": 1}])

    def rows():
        yield {"a": 2}
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_rows(path, rows())
    assert rows_of(path) == [("1", {"a": 1})]
    assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_appending_drops_a_torn_last_line(tmp_path):
    path = tmp_path / "deep" / "rows.jsonl"
    with AppendWriter(path) as writer:
        writer.write({"a": 1})
    with path.open("ab") as file:
        file.write(b'{"a": ' + b"2" * 100_000)  # longer than one block of the search for the line's start
    with AppendWriter(path) as writer:
        writer.write({"a": 3})
    assert rows_of(path) == [("1", {"a": 1}), ("2", {"a": 3})]


def test_appending_to_a_file_of_one_torn_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a"')
    with AppendWriter(path) as writer:
        writer.write({"a": 1})
    assert rows_of(path) == [("1", {"a": 1})]


def test_lines_written_before_a_kill_are_all_there(tmp_path):
    path = tmp_path / "rows.jsonl"
    code = f"""
        import itertools
        from mentor_pl.files.jsonl import AppendWriter
        with AppendWriter({str(path)!r}) as writer:
            for n in itertools.count():
                writer.write({{"n": n, "pad": "x" * 5000}})
                print(n, flush=True)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    last = 0
    while last < 50:
        last = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    last = int((child.communicate()[0].split() or [last])[-1])
    AppendWriter(path).close()
    numbers = [row["n"] for _, row in rows_of(path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > last
