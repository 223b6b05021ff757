"""The one canned Lambda behind every state: it does what the run's request says.

``request["canned"][NAME]`` is a list with an action per call, the last one repeated:
``{"return": …}``, ``{"raise": "ClassName"}``. It notes every call in a file, so that a
test can see who was called, in which order and with what.

It is its own Lambda runtime: MiniStack's Python workers report every exception as
Runtime.HandlerError, where AWS names the class, and the definition matches names.
"""

import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any


class Canned(Exception):
    """An exception that is to be named as the action says."""


def handler(event: Any) -> Any:
    run, name = event["run"]["id"], os.environ["NAME"]
    calls = Path(os.environ["CALLS"]) / run
    calls.mkdir(exist_ok=True)
    number = len(list(calls.glob(f"*-{name}-*")))
    note = calls / f"{time.time_ns()}-{name}-{number}"
    note.write_text(json.dumps(event))
    actions = json.loads((calls / "canned").read_text()).get(name, [{}])
    action = actions[min(number, len(actions) - 1)]
    if "raise" in action:
        raise Canned(action["raise"])
    if name == "Await" and not action.get("silent"):
        succeed(event["token"])
    if name == "Report" and "return" not in action:
        return verdict(event["state"])
    return action.get("return", defaults(name))


def defaults(name: str) -> Any:
    return {
        "Plan": {"waves": [[0]]},
        "Dispatch": {"id": "command-1", "sent": True},
    }.get(name)


def verdict(state: Any) -> Any:
    """What the real report does with the state: the first error decides."""
    error = state.get("error", {}).get("Error", "")
    return {"succeeded": not error, "error": error, "cause": f"cause of {error}"}


def succeed(token: str) -> None:
    body = json.dumps({"taskToken": token, "output": "{}"}).encode()
    request = urllib.request.Request(
        os.environ["ENDPOINT"],
        data=body,
        headers={
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "AWSStepFunctions.SendTaskSuccess",
            "Authorization": "AWS4-HMAC-SHA256 SignedHeaders=host, Signature=0, "
            "Credential=test/20260101/us-east-1/states/aws4_request",
        },
    )
    urllib.request.urlopen(request, timeout=5).read()


def serve() -> None:
    """Lambda's runtime API: fetch an invocation, answer it, and again."""
    api = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"
    while True:
        with urllib.request.urlopen(f"{api}/next") as invocation:
            request_id = invocation.headers["Lambda-Runtime-Aws-Request-Id"]
            event = json.load(invocation)
        try:
            answer, kind = handler(event), "response"
        except Canned as error:
            text = json.dumps({"code": "canned", "message": "as canned", "hint": ""})
            answer, kind = {"errorType": str(error), "errorMessage": text}, "error"
        urllib.request.urlopen(f"{api}/{request_id}/{kind}", json.dumps(answer).encode()).read()


if __name__ == "__main__":
    serve()
