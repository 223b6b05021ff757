"""The result line of an instance."""

from __future__ import annotations

import json

import pytest

from codeferry_contracts.errors import ResultInvalid
from codeferry_contracts.result import parse_result


def line(**fields):
    return json.dumps({"codeferry_result": 1, "run_id": "r", "status": "applied"} | fields)


def test_the_line_is_found_among_other_output():
    """A login banner before the line or output after it does no harm."""
    result = parse_result(f"motd\n{line(files=3, warnings=['w'])}\nmore")
    assert (result.run_id, result.status, result.files) == ("r", "applied", 3)
    assert result.warnings == ("w",)


def test_unknown_fields_are_ignored():
    """A newer document on the instance does not break an older workflow."""
    assert parse_result(line(colour="red")).status == "applied"


@pytest.mark.parametrize(
    "stdout",
    [
        "",
        "hello",
        line()[:-5],
        line(status="fine"),
        line().replace("1", "2", 1),
        '{"codeferry_result"',
        '{"codeferry_result": ' + "[" * 2400,
    ],
)
def test_output_without_a_readable_line_is_refused(stdout):
    """Truncated, foreign or missing: the error says the line could not be read."""
    with pytest.raises(ResultInvalid):
        parse_result(stdout)


@pytest.mark.parametrize(
    "field",
    [
        {"files": "7"},
        {"files": True},
        {"release_id": 7},
        {"seconds": {"download": "1"}},
        {"seconds": []},
        {"seconds": {"download": float("nan")}},
        {"seconds": {"download": float("-inf")}},
        {"seconds": {"download": 10**400}},
        {"bytes": 10**19},
        {"ran": {"ending": "exited", "seconds": float("inf")}},
        {"warnings": [{}]},
        {"unmet": "a"},
        {"error": {"code": 1}},
        {"error": "broken"},
        {"ran": {"ending": "vanished"}},
        {"ran": {"ending": "exited", "exit_code": "3"}},
        {"ran": {"ending": "exited", "tail": None}},
        {"ran": []},
        {"manifest": "yes"},
    ],
)
def test_a_field_of_another_kind_is_no_result(field):
    """An instance can say anything; the states after collect may rely on the types."""
    line = json.dumps({"codeferry_result": 1, "run_id": "r", "status": "applied"} | field)
    with pytest.raises(ResultInvalid, match=next(iter(field))):
        parse_result(line)
