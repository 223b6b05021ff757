"""`ferry local` for people and pipes."""

from types import SimpleNamespace

from codeferry_local import cli
from codeferry_local.home import State


def test_a_pipe_gets_whole_lines(capsys):
    """`ferry local up | grep i-…` finds the path of the instance's root, however long."""
    root = "/home/somebody/" + "long/" * 40
    record = SimpleNamespace(
        instance_id="i-0a88a7e4b57bc5252",
        name="demo-1",
        tags={"codeferry:target": "demo"},
        root=root,
    )
    state = SimpleNamespace(
        endpoints={"aws": "a", "ssm": "s"}, bucket="b", state_machines={}, instances=[record]
    )
    cli._show(state, json_=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "i-0a88" in line]
    assert line.split() == ["i-0a88a7e4b57bc5252", "demo-1", "demo", root]


def test_the_environment_names_its_stage(tmp_path):
    """After `eval "$(ferry local env)"` a push goes there without --stage."""
    credentials = {"access_key_id": "a", "secret_access_key": "s"}
    state = State(
        pid=1,
        stage="local",
        region="eu-west-1",
        account="000000000000",
        endpoints={"aws": "a", "ssm": "s"},
        credentials=credentials,
        bucket="b",
        state_machines={},
        instances=[],
    )
    assert state.environment()["FERRY_STAGE"] == "local"
