"""Credentials are found by name and by content, and their likenesses are not."""

from __future__ import annotations

import base64
import os
import random
import string
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from codeferry_cli.packing import SecretsFound, pack, select
from codeferry_cli.packing.secrets import NAME_RULES, _telling, find_secret

Plant = Callable[[Mapping[str | bytes, str | bytes]], Path]

_random = random.Random(7)


def token(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(_random.choice(alphabet) for _ in range(length))


def aws_id() -> str:
    return "AKIA" + token(16, string.ascii_uppercase + "234567")


def aws_secret() -> str:
    return token(40, string.ascii_letters + string.digits + "/+")


def private_key(kind: str) -> str:
    body = base64.encodebytes(_random.randbytes(600)).decode()
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{body}-----END {kind}PRIVATE KEY-----\n"


CONTENTS: dict[str, Callable[[], str]] = {
    "pkcs8": lambda: private_key(""),
    "rsa": lambda: private_key("RSA "),
    "openssh": lambda: "# my key\n" + private_key("OPENSSH "),
    "encrypted": lambda: private_key("RSA ").replace(
        "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00AA11BB\n\n", 1
    ),
    "key in json": lambda: '{"private_key": "' + private_key("").replace("\n", "\\n") + '"}',
    "key in python": lambda: f"KEY = '''{private_key('EC ')}'''\n",
    "aws ini": lambda: (
        f"[default]\naws_access_key_id = {aws_id()}\naws_secret_access_key = {aws_secret()}\n"
    ),
    "aws shell": lambda: f'export AWS_SECRET_ACCESS_KEY="{aws_secret()}"\n',
    "aws json": lambda: f'{{"SecretAccessKey": "{aws_secret()}"}}',
    "aws javascript": lambda: f"new S3({{secretAccessKey: '{aws_secret()}'}})",
    "aws call": lambda: f'client("s3", aws_secret_access_key="{aws_secret()}")',
    "aws terraform": lambda: f'  access_key = "{aws_id()}"\n  secret_key = "{aws_secret()}"\n',
    "aws positional": lambda: f'connect("{aws_id()}", "{aws_secret()}")\n',
    "aws csv": lambda: f"Access key ID,Secret access key\n{aws_id()},{aws_secret()}\n",
    "azure storage": lambda: (
        "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=" + token(86) + "==;"
    ),
    "github": lambda: f"token: ghp_{token(36)}\n",
    "github fine-grained": lambda: f"GH=github_pat_{token(22)}_{token(59)}\n",
    "gitlab": lambda: f"glpat-{token(20)}",
    "slack": lambda: f"xoxb-{token(12, string.digits)}-{token(24)}",
    "stripe": lambda: f"stripe.api_key = 'sk_live_{token(24)}'",
    "anthropic": lambda: f"sk-ant-api03-{token(93)}-{token(6)}AA",
    "openai": lambda: f"sk-proj-{token(74)}T3BlbkFJ{token(74)}",
    "google": lambda: f"AIza{token(35)}",
    "hugging face": lambda: f"hf_{token(34)}",
    "kubernetes": lambda: f"    client-key-data: {token(200)}\n",
    "terraform cloud": lambda: f'token = "{token(14)}.atlasv1.{token(67)}"',
    "docker hub": lambda: f"dckr_pat_{token(27)}",
    "grafana": lambda: f"glsa_{token(32)}_{token(8, '0123456789abcdef')}",
    "shopify": lambda: f"shpat_{token(32, '0123456789abcdef')}",
    "atlassian": lambda: f"ATATT3xFfGF0{token(180)}={token(8, '0123456789ABCDEF')}",
    "linear": lambda: f"lin_api_{token(40)}",
    "postman": lambda: f"PMAK-{token(24, '0123456789abcdef')}-" + token(34, "0123456789abcdef"),
    "new relic": lambda: f"NRAK-{token(27, string.ascii_uppercase + string.digits)}",
    "pulumi": lambda: f"pul-{token(40, '0123456789abcdef')}",
    "tailscale": lambda: f"tskey-auth-k{token(10)}CNTRL-{token(32)}",
    "planetscale": lambda: f"pscale_tkn_{token(43)}",
    "doppler": lambda: f"dp.pt.{token(43)}",
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_credentials_are_found_by_content(kind: str) -> None:
    """Each kind is recognised in an ordinary file, alone and in the middle of other text."""
    for _ in range(20):
        secret = CONTENTS[kind]()
        assert find_secret(b"src/settings.py", secret.encode())
        assert find_secret(b"src/settings.py", f"x = 1\n{secret}\ny = 2\n".encode())


def test_utf16_is_read_as_text() -> None:
    """A file PowerShell wrote is searched like any other."""
    assert find_secret(b"x.ps1", CONTENTS["aws shell"]().encode("utf-16"))


CLEAN = [
    "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\n"
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n",
    "AKIA2345672345672345 is only half of a credential",
    'if "-----BEGIN PRIVATE KEY-----" in text: raise ValueError\n',
    "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----\n",
    "-----BEGIN PUBLIC KEY-----\n" + "A1b2C3d4" * 12,
    "-----BEGIN CERTIFICATE-----\n" + "A1b2C3d4" * 12,
    "export GITHUB_TOKEN=ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "OPENAI_API_KEY=sk-your-key-here-your-key-here-your-key-here",
    "aws_secret_access_key = os.environ['AWS_SECRET_ACCESS_KEY']",
    'secret_key = "da39a3ee5e6b4b0d3255bfef95601890afd80709"[:7]',
    "integrity sha512-" + base64.b64encode(bytes(range(64))).decode(),
    "commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "task-" * 20 + "sk-learn and xoxo and ghp_ and hf_hub_download_and_more_of_it",
    "AccountKey=<your account key>;",
    "SG.something.else",
]


@pytest.mark.parametrize("text", CLEAN)
def test_likenesses_are_clean(text: str) -> None:
    """Documentation examples, placeholders, public keys, hashes and code are no credentials."""
    assert find_secret(b"docs/readme.md", text.encode()) is None


SECRET_NAMES = """.env config/.env .env.local .env.production id_rsa keys/id_ed25519 id_ecdsa_sk
cert.p12 a/b.pfx release.jks passwords.kdbx putty.ppk .aws/credentials home/.aws/credentials
.git-credentials terraform.tfstate terraform.tfstate.backup
application_default_credentials.json .azure/msal_token_cache.json .aws/sso/cache/ab.json"""
CLEAN_NAMES = """.env.example .env.sample .env.template .env.dist .env.local.example .envrc env
environment.py id_rsa.pub keys/id_ed25519.pub server.key cert.pem .npmrc .pypirc .netrc
credentials.py src/credentials/__init__.py kubeconfig.md config.json tfstate.py my.env.md"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_some_names_are_enough(name: str) -> None:
    """A file that is a credential by its name is one unless it is empty."""
    assert find_secret(name.encode(), b"anything")
    assert find_secret(name.encode(), b"\0\1binary")
    assert find_secret(name.encode(), b"") is None


@pytest.mark.parametrize("name", CLEAN_NAMES.split())
def test_other_names_are_not(name: str) -> None:
    """Templates, public halves and files that only may hold a credential need content."""
    assert find_secret(name.encode(), b"anything at all") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".npmrc", "//registry.npmjs.org/:_authToken=4f1c9b2e-77aa\n"),
        (".pypirc", "[pypi]\nusername = __token__\npassword = hunter2hunter2\n"),
        (".netrc", "machine example.org login me password hunter2\n"),
        (".docker/config.json", '{"auths": {"x": {"auth": "dXNlcjpwYXNzd29yZA=="}}}'),
        (".kube/config", "users:\n- user:\n    token: 3f9a8b7c6d5e\n"),
    ],
)
def test_some_names_need_their_content(name: str, content: str) -> None:
    """A login file counts when it holds a login, and not when it takes it from elsewhere."""
    assert find_secret(name.encode(), content.encode())
    assert find_secret(b"notes.txt", content.encode()) is None
    assert find_secret(b".npmrc", b"//registry.npmjs.org/:_authToken=${NPM_TOKEN}\n") is None


def test_the_quick_look_at_names_misses_none() -> None:
    """Every name a rule can match passes the cheap test before it."""
    names = [
        *SECRET_NAMES.split(),
        ".npmrc",
        ".pypirc",
        ".netrc",
        "_netrc",
        ".dockercfg",
        ".docker/config.json",
        ".kube/config",
        "my-kubeconfig.yaml",
        "x.keystore",
        "x.kdb",
        ".azure/msal_token_cache.bin",
        ".azure/accessTokens.json",
        ".aws/cli/cache/x.json",
    ]
    for rule in NAME_RULES:
        assert any(rule.name.search(name.encode()) for name in names), rule.what
    assert [name for name in names if not _telling(name.encode())] == []


def test_every_one_is_named_and_no_value_is_shown(plant: Plant) -> None:
    """One error names all the files, by name and by content, and holds none of the values."""
    secret, key = aws_secret(), private_key("RSA ")
    root = plant(
        {
            ".env": "PASSWORD=hunter2",
            "a.py": f'aws_secret_access_key="{secret}"',
            "deep/z.pem": key,
            "ok.py": "x = 1",
        }
    )
    with pytest.raises(SecretsFound) as caught:
        list(pack(select(root), "demo"))
    message = str(caught.value)
    assert all(name in message for name in (".env", "a.py", "deep/z.pem", "--allow-secret"))
    assert "ok.py" not in message
    assert not any(value in message for value in ("hunter2", secret, key[40:80]))


def test_nothing_is_given_out_once_a_credential_was_seen(plant: Plant) -> None:
    """After the first hit not one more byte of the archive leaves."""
    secret = CONTENTS["github"]()
    root = plant({"a": secret, **{f"b{n}": os.urandom(400_000) for n in range(20)}})
    given: list[bytes] = []
    with pytest.raises(SecretsFound):
        given.extend(pack(select(root), "demo"))
    assert given == []


def test_include_patterns_do_not_open_the_way(plant: Plant) -> None:
    """The deny list beats include patterns; only --allow-secret passes that one path."""
    root = plant({".gitignore": ".env\n", ".env": "A=1", "sub/.env": "B=2", "a": ""})
    with pytest.raises(SecretsFound, match=r"(?s)\.env.*sub/\.env"):
        list(pack(select(root, ["**/.env"]), "demo"))
    with pytest.raises(SecretsFound) as caught:
        list(pack(select(root, ["**/.env"], ["./.env"]), "demo"))
    assert "\n  .env:" not in caught.value.message
    done = pack(select(root, ["**/.env"], [".env", str(root / "sub" / ".env")]), "demo")
    assert list(done)
    assert [e.path for e in done.entries] == [".env", ".gitignore", "a", "sub/.env"]
