"""The corrections of the pinned MiniStack."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from codeferry_local.emulator.gaps import (
    with_concurrency_limit,
    with_error_class,
    with_known_version,
    with_map_history,
    with_prefix_and_pages,
    with_ranges,
    with_scaled_timeout,
    with_version_id,
)


def whole(bucket, key, headers, query=None):
    return 200, {"Content-Length": "10", "x-amz-checksum-sha256": "abc", "ETag": "e"}, b"0123456789"


def parse(header, size):
    start, _, end = header.removeprefix("bytes=").partition("-")
    return (int(start), int(end or size - 1)) if int(start) < size else None


@pytest.mark.parametrize(
    ("header", "part", "span"),
    [("bytes=2-4", b"234", "bytes 2-4/10"), ("bytes=8-", b"89", "bytes 8-9/10")],
)
def test_a_range_of_a_version_is_a_part(header, part, span):
    """A ranged read that came back whole is cut to the part asked for."""
    status, headers, body = with_ranges(whole, parse)(
        "b", "k", {"range": header}, {"versionId": "v"}
    )
    assert (status, body, headers["Content-Range"]) == (206, part, span)
    assert headers["Content-Length"] == str(len(part))
    assert "x-amz-checksum-sha256" not in headers
    assert headers["ETag"] == "e"


def test_a_read_without_a_range_stays_whole():
    """Nothing else is touched."""
    assert with_ranges(whole, parse)("b", "k", {}, {}) == whole("b", "k", {})


def test_what_was_cut_already_stays_as_it_is():
    """MiniStack's own 206 passes through."""

    def part(*_):
        return 206, {"Content-Range": "bytes 0-1/10"}, b"01"

    assert with_ranges(part, parse)("b", "k", {"range": "bytes=0-1"}, {}) == part()


def history(context, outcome=lambda: ({"a": 1}, "Next")):
    found = []

    def add(execution, kind, details):
        (detail,) = details.values()
        found.append((kind, detail["name"], json.loads(detail.get("input") or detail["output"])))

    task = with_map_history(lambda *_: outcome(), add)
    return found, lambda: task({}, {"x": 1}, {}, {"State": {"Name": "Dispatch"}} | context)


def test_a_task_inside_a_map_is_in_the_history():
    """Entered with its input, left with its output, as Step Functions lists it."""
    found, run = history({"Map": {}})
    assert run() == ({"a": 1}, "Next")
    assert found == [
        ("TaskStateEntered", "Dispatch", {"x": 1}),
        ("TaskStateExited", "Dispatch", {"a": 1}),
    ]


def test_a_task_outside_of_a_map_is_not_listed_twice():
    """MiniStack lists those itself."""
    found, run = history({})
    run()
    assert found == []


def test_a_task_that_fails_is_entered_and_not_left():
    """Its failure goes on to whoever catches it."""

    def fail():
        raise ValueError("as told")

    found, run = history({"Map": {}}, fail)
    with pytest.raises(ValueError, match="as told"):
        run()
    assert [kind for kind, *_ in found] == ["TaskStateEntered"]


def test_an_upload_event_names_its_version():
    """The version that was written is in the event, and only in that one."""
    sent = []
    dispatch = with_version_id(lambda event: sent.append(json.loads(event["Detail"])["object"]))

    def fire(bucket, key, version_id=None):
        dispatch({"Source": "aws.s3", "Detail": json.dumps({"object": {"key": key}})})

    with_known_version(fire)("b", "first", version_id="v1")
    with_known_version(fire)("b", "second")
    assert sent == [{"key": "first", "version-id": "v1"}, {"key": "second"}]


def test_other_events_are_passed_on_as_they_are():
    """Only S3's events have an object."""
    sent = []
    event = {"Source": "codeferry", "Detail": "{}"}
    with_known_version(lambda version_id: with_version_id(sent.append)(event))("v1")
    assert sent == [event]


def failing(log, kind="Runtime.HandlerError"):
    answer = {"error": True, "body": {"errorType": kind, "errorMessage": "m"}, "log": log}
    return with_error_class(lambda *_: answer)()["body"]["errorType"]


def test_an_error_of_a_function_has_its_class():
    """The last exception of the traceback names the error, not those it was raised from."""
    log = (
        "Traceback (most recent call last):\n  File x\nbotocore.exceptions.ClientError: no\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
        "Traceback (most recent call last):\n  File y\n"
        'codeferry_lambdas.aws.errors.AwsUnavailable: {"code": "x"}\n'
    )
    assert failing(log) == "AwsUnavailable"


def test_what_has_a_better_name_keeps_it():
    """Timeouts are no exceptions of the function, and success is no error at all."""
    assert failing("ValueError: x", kind="Sandbox.Timedout") == "Sandbox.Timedout"
    assert failing("") == "Runtime.HandlerError"
    fine = {"body": {"errorType": "Runtime.HandlerError"}, "log": "ValueError: x"}
    assert with_error_class(lambda *_: fine)() == fine


def test_calls_take_turns():
    """A third call does not start while two are under way, and in the end all are done."""
    three = threading.Barrier(3)

    def execute(_):
        try:
            three.wait(0.3)
        except threading.BrokenBarrierError:
            return "never met"
        return "met"

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(with_concurrency_limit(execute, 2), range(3))) == ["never met"] * 3


def stored(data):
    """FilterLogEvents as MiniStack has it, over two streams: no prefix, no token."""
    streams = {"run-1/a": range(0, 12_000, 2), "run-1/b": range(1, 12_000, 2), "run-2/a": range(9)}
    names = data.get("logStreamNames") or list(streams)
    found = [
        {"timestamp": time // 3, "message": f"{name} {time}", "logStreamName": name}
        for name in names
        for time in streams.get(name, ())
        if time // 3 >= data.get("startTime", 0)
    ]
    found.sort(key=lambda event: (event["timestamp"], event["message"]))
    return 200, {"Content-Type": "json"}, json.dumps({"events": found[:10_000]}).encode()


def filtered(**data):
    find = with_prefix_and_pages(
        stored, lambda group: ["run-1/a", "run-1/b", "run-2/a"] if group else []
    )
    status, _, body = find({"logGroupName": "g", **data})
    assert status == 200
    return json.loads(body)


def test_only_the_streams_of_the_prefix_are_read():
    """The output of one command does not show another's."""
    assert {e["logStreamName"] for e in filtered(logStreamNamePrefix="run-2/")["events"]} == {
        "run-2/a"
    }
    assert filtered(logStreamNamePrefix="run-3/")["events"] == []


def test_pages_give_every_event_once():
    """More than one page of events is complete, in order and without repetition."""
    page = filtered(logStreamNamePrefix="run-1/")
    messages = [event["message"] for event in page["events"]]
    while "nextToken" in page:
        page = filtered(logStreamNamePrefix="run-1/", nextToken=page["nextToken"])
        messages += [event["message"] for event in page["events"]]
    assert len(messages) == len(set(messages)) == 12_000


def test_a_wait_for_a_task_token_can_be_short():
    """Its timeout is multiplied, the definition stays as it is, and no timeout stays none."""
    state = {"TimeoutSeconds": 420}

    def waited(*arguments):
        return arguments[-1].get("TimeoutSeconds")

    assert with_scaled_timeout(waited, 0.1)("lambda", {}, "token", state) == 42
    assert with_scaled_timeout(waited, 0.1)("lambda", {}, "token", {}) is None
    assert state == {"TimeoutSeconds": 420}
