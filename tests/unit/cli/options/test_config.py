"""Options that are not typed: variables, files, defaults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from codeferry_cli.commands import ferry as ferry_group
from codeferry_cli.errors import ConfigInvalid
from codeferry_cli.options import config
from codeferry_cli.options.config import sample


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def user_file(text: str) -> None:
    write(config.user_file(), text)


def pushed(ferry: Any, *arguments: str) -> Any:
    """The request and archive a dry run would make."""
    answer = ferry("push", *arguments, "--dry-run", "--json")
    assert answer.exit == 0, answer.out
    return answer.json()


def test_a_file_with_one_key_works(ferry: Any, project: Path) -> None:
    """Nothing else has to be there for a key to be a default."""
    write(project / "codeferry.toml", 'project = "named"')
    assert pushed(ferry, "fleet", str(project))["request"]["project"] == "named"


def test_flag_beats_variable_beats_project_beats_user(
    ferry: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer holds until the one above it says something."""
    user_file("keep_releases = 2\nmax_errors = 1\n")
    assert pushed(ferry, "fleet", str(project))["request"]["options"]["keep_releases"] == 2
    write(project / "codeferry.toml", "keep_releases = 3")
    assert pushed(ferry, "fleet", str(project))["request"]["options"] == {
        "keep_releases": 3,
        "max_errors": "1",
    }
    monkeypatch.setenv("FERRY_KEEP_RELEASES", "4")
    assert pushed(ferry, "fleet", str(project))["request"]["options"]["keep_releases"] == 4
    request = pushed(ferry, "fleet", str(project), "--keep-releases", "6")["request"]
    assert request["options"]["keep_releases"] == 6


def test_the_nearest_file_upwards_from_the_directory_counts(ferry: Any, project: Path) -> None:
    """Not the one where the user stands, and not one further up."""
    write(project.parent / "codeferry.toml", 'project = "outer"')
    assert pushed(ferry, "fleet", str(project / "pkg"))["request"]["project"] == "outer"
    write(project / "codeferry.toml", 'project = "inner"')
    assert pushed(ferry, "fleet", str(project / "pkg"))["request"]["project"] == "inner"


def test_pyproject_counts_only_with_our_table(ferry: Any, project: Path) -> None:
    """A pyproject.toml without [tool.codeferry] is passed over."""
    write(project.parent / "codeferry.toml", 'project = "outer"')
    write(project / "pyproject.toml", '[project]\nname = "codeferry-like"\n')
    assert pushed(ferry, "fleet", str(project))["request"]["project"] == "outer"
    write(project / "pyproject.toml", '[tool.codeferry]\nproject = "mine"\n')
    assert pushed(ferry, "fleet", str(project))["request"]["project"] == "mine"


def test_config_names_the_file_to_use(ferry: Any, project: Path) -> None:
    """--config replaces the project's file."""
    write(project / "codeferry.toml", 'project = "near"')
    other = write(project.parent / "other.toml", 'project = "chosen"')
    document = pushed(ferry, "fleet", str(project), "--config", str(other))
    assert document["request"]["project"] == "chosen"


def test_every_key_reaches_the_request(ferry: Any, project: Path) -> None:
    """Lists, tables, numbers, shares and durations arrive as the request has them."""
    write(
        project / "codeferry.toml",
        """
        target = "fleet"
        keep_releases = 7
        max_concurrency = 3
        max_errors = "10%"
        timeout_seconds = "15m"
        waves = "1, 50%"
        bake = "1m"
        health = "./check.sh 'a b'"
        strict = true
        install = true
        user = "app"
        persist = ["logs"]
        [expect]
        files = ["train.py"]
        directories = ["pkg"]
        """,
    )
    request = pushed(ferry, "fleet", str(project))["request"]
    assert request["expect"] == {"files": ["train.py"], "directories": ["pkg"]}
    assert request["options"] == {
        "keep_releases": 7,
        "max_concurrency": "3",
        "max_errors": "10%",
        "rollout": {
            "waves": ["1", "50%"],
            "bake_seconds": 60,
            "health": ["./check.sh", "a b"],
        },
        "strict": True,
        "install": True,
        "user": "app",
        "persist": ["logs"],
        "timeout_seconds": 900,
    }


def test_an_empty_option_turns_a_configured_roll_out_off(ferry: Any, project: Path) -> None:
    """One push without waves, in a project whose pushes have them."""
    write(project / "codeferry.toml", 'waves = "1,100%"\nhealth = "true"\n')
    request = pushed(ferry, "fleet", str(project), "--waves", "", "--health", "")["request"]
    assert "options" not in request


def test_a_configured_target_need_not_be_typed(
    ferry: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ferry push` alone works in a project that names its target."""
    write(project / "codeferry.toml", 'target = "gpu"')
    monkeypatch.chdir(project)
    assert pushed(ferry)["request"]["target"] == "gpu"


def test_include_and_allow_secrets_are_lists(ferry: Any, project: Path) -> None:
    """What is ignored comes along when the file says so."""
    write(project / ".gitignore", "data/\n.env\n")
    write(project / "data" / "x.bin", "x")
    write(project / ".env", "TOKEN=1\n")
    write(project / "codeferry.toml", 'include = ["data", ".env"]\nallow_secrets = [".env"]')
    answer = ferry("pack", str(project), "--list", "--json").json()
    assert {"data/x.bin", ".env"} <= {file["path"] for file in answer["files"]}


@pytest.mark.parametrize(
    ("name", "text", "line", "said"),
    [
        ("codeferry.toml", 'project = "a"\n\nstge = "dev"\n', 3, "unknown key 'stge'"),
        ("codeferry.toml", 'project = "a"\nstage = dev\n', 2, "Invalid value"),
        ("codeferry.toml", 'project = "a"\nproject\n', 2, "Expected '='"),
        ("codeferry.toml", 'project = "a', 1, "Unterminated"),
        ("codeferry.toml", "\nstrict = 1\n", 2, "'strict' must be true or false"),
        ("codeferry.toml", 'persist = "logs"\n', 1, "'persist' must be a list of strings"),
        ("codeferry.toml", "[expect]\nfile = ['a']\n", 1, "'expect' must be a table"),
        ("codeferry.toml", 'waves = ["1"]\n', 1, "'waves' must be a string such as"),
        ("codeferry.toml", 'waves = "1,all"\n', 1, "'waves': 'all' cannot be a wave"),
        ("codeferry.toml", '\nbake = "2h"\n', 2, "'bake': '2h' is too long: at most 3600 s"),
        ("codeferry.toml", 'health = "it\'s"\n', 1, "'health': \"it's\" cannot be split"),
        ("codeferry.toml", 'timeout_seconds = "soon"\n', 1, "'timeout_seconds': 'soon' is not a"),
        ("codeferry.toml", "a = 1\n[other]\nstrict = true", 1, "unknown key 'a'"),
        (
            "pyproject.toml",
            "[project]\nname = 'x'\nstge = 1\n\n[tool.codeferry]\nstage = 'dev'\nstge = 1\n",
            7,
            "unknown key 'stge'",
        ),
        ("pyproject.toml", "[tool.codeferry]\nproject = \n", 2, "Invalid value"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_line(
    ferry: Any, project: Path, name: str, text: str, line: int, said: str
) -> None:
    """An unknown key, a wrong type or malformed TOML: file, line, exit 3."""
    path = write(project / name, text)
    answer = ferry("push", "fleet", str(project), "--dry-run")
    assert answer.exit == 3
    assert f"{path}, line {line}: " in answer.err
    assert said in answer.err


def test_bytes_that_are_not_utf8_are_named_with_their_line(project: Path) -> None:
    """A file in another encoding is refused in words."""
    path = project / "codeferry.toml"
    path.write_bytes(b'stage = "dev"\n# caf\xe9\n')
    with pytest.raises(ConfigInvalid, match="line 2: this is not UTF-8"):
        config.read(path)


def test_a_bad_value_names_the_option_it_stands_for(ferry: Any, project: Path) -> None:
    """A stage that cannot be one is refused whether typed or configured."""
    write(project / "codeferry.toml", 'stage = "Not A Stage"')
    answer = ferry("push", "fleet", str(project), "--dry-run")
    assert answer.exit == 2
    assert "--stage" in answer.err


def test_the_sample_is_valid_and_names_every_key(tmp_path: Path) -> None:
    """What `ferry init` writes can be read, also with every comment taken away."""
    text = sample('odd "name"')
    path = write(tmp_path / "codeferry.toml", text)
    assert config.read(path) == {"project": 'odd "name"'}
    whole = "\n".join(
        line.removeprefix("# ") for line in text.splitlines() if " = " in line or "[expect]" in line
    )
    keys = config.read(write(path, whole)).keys()
    assert keys == config.KEYS.keys() - {"root"}


def _options(command: click.Command) -> Iterator[click.Option]:
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None
            yield from _options(below)
    yield from (p for p in command.params if isinstance(p, click.Option))


def test_a_variable_is_named_for_its_option() -> None:
    """Whoever knows the flag knows the variable."""
    named = {str(option.envvar): option for option in _options(ferry_group) if option.envvar}
    assert len(named) > 20
    for variable, option in named.items():
        flags = {flag.lstrip("-").replace("-", "_").upper() for flag in option.opts}
        assert variable.removeprefix("FERRY_") in flags, variable


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(
    ferry: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its default would hold, silently; one of another command's options is none."""
    for name in ("FERRY_STAG", "FERRY_TIMEOUT_SECONDS", "FERRY_BAKE"):
        monkeypatch.setenv(name, "5")
    monkeypatch.setenv("FERRY_TIMEOUT", "7m")
    answer = ferry("script", "fleet", str(_script(project)), "--dry-run", "--json")
    assert answer.json()["request"]["options"] == {"timeout_seconds": 420}
    warnings = [line for line in answer.err.splitlines() if line.startswith("Warning")]
    assert warnings == [
        "Warning: no option reads the variable FERRY_STAG. Did you mean FERRY_STAGE?",
        "Warning: no option reads the variable FERRY_TIMEOUT_SECONDS. Did you mean FERRY_TIMEOUT?",
    ]


def _script(project: Path) -> Path:
    script = project / "setup.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    ("typed", "target"),
    [
        (["./demo"], "gpu"),
        (["./demo", "web"], "web"),
        (["web", "./demo"], "web"),
        (["tag:Role=a/b", "./demo"], "tag:Role=a/b"),
    ],
)
def test_target_and_directory_are_told_apart_by_their_form(
    ferry: Any, project: Path, typed: list[str], target: str
) -> None:
    """The configuration's target is used where none is typed, and said."""
    write(project / "codeferry.toml", 'target = "gpu"')
    answer = ferry("push", *typed, "--dry-run", "--json")
    assert answer.exit == 0, answer.out
    assert answer.json()["root"] == str(project)
    assert answer.json()["request"]["target"] == target
    assert ("Target gpu, from the configuration" in answer.err) == (target == "gpu")


@pytest.mark.parametrize("typed", ["./setup.sh", "setup.sh"])
def test_a_script_alone_goes_to_the_configurations_target(
    ferry: Any, project: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    """A variable of the environment does the same, and is named."""
    write(project / "codeferry.toml", 'target = "gpu"')
    _script(project)
    monkeypatch.chdir(project)
    answer = ferry("script", typed, "--dry-run", "--json")
    assert answer.json()["request"]["target"] == "gpu"
    monkeypatch.setenv("FERRY_TARGET", "web")
    answer = ferry("script", typed, "--dry-run", "--json")
    assert answer.json()["request"]["target"] == "web"
    assert "Target web, from FERRY_TARGET" in answer.err
