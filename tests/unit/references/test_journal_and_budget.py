import dataclasses
import threading

import pytest

from mentor_pl.errors import ConfigError, DataFileError
from mentor_pl.messages import ToolResult
from mentor_pl.references.budget import Account, Budget, BudgetSpentError, Spending
from mentor_pl.references.journal import Journal, ResultRow, journal_key


def reply(n):
    return {"message": {"n": n, "text": "ü \ud800"}, "prompt_tokens": 10, "completion_tokens": n}


def test_a_journal_is_found_again_after_a_torn_line(tmp_path):
    path = tmp_path / "deep" / "journal.jsonl"
    journal = Journal(path)
    journal.put("reply", "a", reply(1))
    journal.put("results", "a", {"results": []})
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"kind": "reply", "key": "b", "mess')
    journal = Journal(path)
    assert (journal.num_replies, journal.prompt_tokens, journal.completion_tokens) == (1, 10, 1)
    assert journal.get("reply", "b") is None
    journal.put("reply", "b", reply(2))
    for _ in range(2):
        assert journal.get("reply", "a") == {"kind": "reply", "key": "a", **reply(1)}
        assert journal.get("results", "a") == {"kind": "results", "key": "a", "results": []}
        assert journal.get("reply", "b") == {"kind": "reply", "key": "b", **reply(2)}
        journal.close()
        journal = Journal(path)
    assert journal.num_replies == 2
    journal.close()


def test_a_journal_belongs_to_one_process(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(ConfigError, match="another process is collecting into this journal"):
        Journal(tmp_path / "journal.jsonl")
    journal.close()
    Journal(tmp_path / "journal.jsonl").close()


def test_a_damaged_journal_is_named(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text("oops\n")
    with pytest.raises(DataFileError, match="journal.jsonl:1: expected one JSON object"):
        Journal(path)


def test_a_key_depends_on_all_that_is_asked():
    keys = {journal_key(*parts) for parts in ([], [1], [1, 2], [{"a": 1, "b": 2}], [{"a": 1}, {"b": 2}], ["\ud800"])}
    assert len(keys) == 6
    assert journal_key({"a": 1, "b": 2}) == journal_key({"b": 2, "a": 1})


def test_money_is_counted_by_both_prices():
    budget = Budget(max_cost=1, price_per_million_prompt_tokens=2, price_per_million_completion_tokens=10)
    assert budget.cost(500_000, 100_000) == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_requests": -1}, "budget.max_requests is -1; it must not be negative"),
        ({"max_cost": 1.0}, "budget.max_cost is set but both prices are 0"),
    ],
)
def test_a_budget_that_cannot_hold_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Budget(**options)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(max_requests=3),
        Budget(max_tokens=330),
        Budget(max_cost=0.33, price_per_million_prompt_tokens=1000, price_per_million_completion_tokens=1000),
    ],
)
def test_a_request_is_only_made_where_its_worst_case_fits(budget):
    account = Account(budget, Spending(requests=1, prompt_tokens=100, completion_tokens=10))
    for _ in range(2):
        with account.request(prompt_tokens=100, completion_tokens=10) as spending:
            spending.requests, spending.prompt_tokens, spending.completion_tokens = 1, 100, 10
    with pytest.raises(BudgetSpentError), account.request(prompt_tokens=100, completion_tokens=10):
        pass
    assert account.spent == Spending(requests=3, prompt_tokens=300, completion_tokens=30)


def test_a_failed_request_costs_nothing():
    account = Account(Budget(max_requests=1), Spending())
    with pytest.raises(KeyError), account.request(prompt_tokens=1, completion_tokens=1):
        raise KeyError
    assert account.spent == Spending()


def test_many_threads_stay_within_a_budget_and_use_it_up():
    account = Account(Budget(max_tokens=100), Spending())
    made = []

    def spend():
        while True:
            try:
                with account.request(prompt_tokens=10, completion_tokens=10) as spending:
                    # Each takes half of its worst case, so that others, which wait for that, come to their turn.
                    spending.requests, spending.prompt_tokens, spending.completion_tokens = 1, 5, 5
                    made.append(1)
            except BudgetSpentError:
                return

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 9  # 90 spent: one more could make it 110
    assert account.spent == Spending(requests=9, prompt_tokens=45, completion_tokens=45)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{}", "field 'kind': expected a value, found nothing"),
        ('{"kind": "other", "key": "a"}', "field 'kind': expected"),
        (
            '{"kind": "reply", "key": "a", "prompt_tokens": 1, "completion_tokens": 1}',
            "field 'message': expected a value",
        ),
        ('{"kind": "reply", "key": 5}', "field 'key': expected a valid string"),
        (
            '{"kind": "reply", "key": "a", "message": {}, "prompt_tokens": -1, "completion_tokens": 1}',
            "field 'prompt_tokens'",
        ),
        (
            '{"kind": "results", "key": "a", "results": [{"content": "x"}]}',
            "field 'results[0].status': expected a value",
        ),
        ("[]", "expected one JSON object, found list"),
    ],
)
def test_a_line_that_is_none_of_a_journal_is_named(tmp_path, line, problem):
    path = tmp_path / "journal.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(DataFileError) as failure:
        Journal(path)
    assert str(failure.value).startswith(f"{path}:2: ")
    assert problem in str(failure.value)


def test_blank_lines_of_a_journal_do_not_shift_what_is_found(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.put("reply", "a", reply(1))
    journal.close()
    path.write_bytes(b"\n\n" + path.read_bytes() + b"  \n")
    journal = Journal(path)
    journal.put("reply", "b", reply(2))
    assert [journal.get("reply", key)["completion_tokens"] for key in "ab"] == [1, 2]
    journal.close()


def test_every_field_of_a_result_is_journalled():
    fields = {field.name for field in dataclasses.fields(ToolResult)}
    assert fields == {"call_id", *ResultRow.model_fields}
