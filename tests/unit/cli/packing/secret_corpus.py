"""Projects as they lie on disks: files with a credential in them, and far more without.

Everything is generated from a seed. Shapes of credentials are their issuers'; the files
around them, and the clean ones, are written after what stands in real repositories:
examples from documentation, lock files, hashes, certificates, embedded images.
"""

from __future__ import annotations

import base64
import json
import random
import string
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice

LETTERS = string.ascii_letters
DIGITS = string.digits
BASE64 = LETTERS + DIGITS + "+/"
UPPER = string.ascii_uppercase + DIGITS
HEX = "0123456789abcdef"
WORDS = [
    "account", "archive", "batch", "branch", "buffer", "build", "cache", "client", "cluster",
    "column", "commit", "config", "count", "cursor", "data", "dataset", "default", "deploy",
    "device", "epoch", "event", "export", "field", "file", "filter", "format", "gateway",
    "handler", "header", "image", "index", "input", "instance", "item", "job", "key", "label",
    "layer", "level", "list", "loader", "log", "loss", "main", "map", "message", "metric", "mode",
    "model", "module", "name", "node", "object", "optimizer", "option", "order", "output",
    "package", "page", "parser", "path", "pipeline", "plan", "policy", "process", "project",
    "query", "queue", "range", "reader", "record", "region", "release", "report", "request",
    "result", "retry", "role", "row", "runner", "sample", "scheduler", "schema", "secret",
    "section", "server", "service", "session", "setting", "shape", "signature", "source", "stage",
    "state", "status", "step", "store", "stream", "table", "target", "task", "tensor", "test",
    "thread", "token", "trainer", "user", "value", "vector", "version", "view", "volume",
    "weight", "window", "worker", "writer",
]  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """A file; ``values`` are what must never be shown, none in a clean one."""

    path: str
    content: str
    values: tuple[str, ...] = ()


class Author:
    """Writes files from one source of chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def text(self, length: int, alphabet: str = LETTERS + DIGITS) -> str:
        return "".join(self.chance.choices(alphabet, k=length))

    def hex(self, length: int) -> str:
        return self.text(length, HEX)

    def base64(self, size: int) -> str:
        return base64.b64encode(self.chance.randbytes(size)).decode()

    def word(self) -> str:
        return self.chance.choice(WORDS)

    def name(self, parts: int = 2) -> str:
        return "_".join(self.chance.sample(WORDS, parts))

    def sentence(self) -> str:
        return " ".join(self.word() for _ in range(self.chance.randint(5, 14))).capitalize() + "."

    def wrapped(self, size: int, width: int = 64) -> str:
        """Base64 in lines, as PEM and OpenPGP have it."""
        whole = self.base64(size)
        return "\n".join(whole[at : at + width] for at in range(0, len(whole), width))

    def uuid(self) -> str:
        return str(uuid.UUID(int=self.chance.getrandbits(128), version=4))

    def code(self, lines: int = 12) -> str:
        """Python that says nothing."""
        made = [f"import {self.word()}", ""]
        for _ in range(lines // 3):
            name, argument = self.name(), self.word()
            made += [
                f"def {name}({argument}):",
                f'    """{self.sentence()}"""',
                f"    return {argument}.{self.word()}({self.chance.randrange(1000)})",
                "",
            ]
        return "\n".join(made) + "\n"


Written = tuple[str, str, tuple[str, ...]]  # name, content, the secret values
Write = Callable[[Author], Written]


def in_code(author: Author, value: str) -> str:
    """A value in one of the places where people leave values."""
    name = author.name()
    place = author.chance.choice(
        [
            f'{name.upper()} = "{value}"\n',
            f"    client = Client(token='{value}', timeout=30)\n",
            f'# TODO remove before release: {value}\n{name} = os.environ["{name.upper()}"]\n',
            f'headers = {{"Authorization": "Bearer {value}"}}\n',
        ]
    )
    return author.code() + place + author.code()


def in_config(author: Author, value: str) -> str:
    name = author.name()
    return author.chance.choice(
        [
            f"{author.word()}:\n  {name}: {value}\n  retries: 3\n",
            f'[{author.word()}]\n{name} = "{value}"\nverbose = true\n',
            json.dumps({author.word(): {name: value, "enabled": True}}, indent=2) + "\n",
            f"#!/bin/sh\nset -e\nexport {name.upper()}={value}\nexec python -m {author.word()}\n",
            f"curl -H 'Authorization: token {value}' https://api.example.org/{author.word()}\n",
        ]
    )


def token(make: Callable[[Author], str]) -> Write:
    """A token alone identifies itself: it may stand in code or in a configuration."""

    def write(author: Author) -> Written:
        value = make(author)
        if author.chance.random() < 0.5:
            return f"{author.name()}.py", in_code(author, value), (value,)
        suffix = author.chance.choice(["yaml", "toml", "json", "sh", "txt"])
        return f"{author.name()}.{suffix}", in_config(author, value), (value,)

    return write


def private_key(kind: str, name: str) -> Write:
    def write(author: Author) -> Written:
        body = author.wrapped(author.chance.choice([121, 600, 1190]), 64)
        if kind == "ENCRYPTED":
            body = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{author.hex(32)}\n\n{body}"
        label = {"ENCRYPTED": "RSA ", "": ""}.get(kind, f"{kind} ")
        mark = f"{label}PRIVATE KEY"
        content = f"-----BEGIN {mark}-----\n{body}\n-----END {mark}-----\n"
        return name, content, (body[-100:-70],)

    return write


def service_account(author: Author) -> Written:
    key = author.wrapped(1200)
    document = {
        "type": "service_account",
        "project_id": author.word(),
        "private_key_id": author.hex(40),
        "private_key": f"-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n",
        "client_email": f"{author.word()}@{author.word()}.iam.gserviceaccount.com",
    }
    return f"{author.name()}.json", json.dumps(document, indent=2), (key[:60],)


def key_in_source(author: Author) -> Written:
    key = author.wrapped(300)
    text = f'KEY = """-----BEGIN EC PRIVATE KEY-----\n{key}\n-----END EC PRIVATE KEY-----"""\n'
    return f"{author.name()}.py", author.code() + text, (key[:60],)


def aws(author: Author) -> Written:
    identity = "AKIA" + author.text(16, string.ascii_uppercase + "234567")
    secret = author.text(40, BASE64)
    name, content = author.chance.choice(
        [
            (
                "credentials.ini",
                f"[prod]\naws_access_key_id = {identity}\naws_secret_access_key = {secret}\n",
            ),
            (
                "deploy.sh",
                f"export AWS_ACCESS_KEY_ID={identity}\nexport AWS_SECRET_ACCESS_KEY='{secret}'\n",
            ),
            (
                "main.tf",
                f'provider "aws" {{\n  access_key = "{identity}"\n  secret_key = "{secret}"\n}}\n',
            ),
            (
                "s3.js",
                f"new S3({{ accessKeyId: '{identity}',\n  secretAccessKey: '{secret}' }})\n",
            ),
            (
                "Settings.java",
                f'new BasicAWSCredentials("{identity}", "{secret}");\n',
            ),
            (
                "accessKeys.csv",
                f"User name,Access key ID,Secret access key\nci,{identity},{secret}\n",
            ),
            (
                "compose.yaml",
                f"environment:\n  AWS_ACCESS_KEY_ID: {identity}\n"
                f"  AWS_SECRET_ACCESS_KEY: {secret}\n",
            ),
            (
                "settings.py",
                author.code() + f'AWS_ACCESS_KEY_ID = "{identity}"\n'
                f'AWS_STORAGE_BUCKET_NAME = "media"\nAWS_SECRET_ACCESS_KEY = "{secret}"\n',
            ),
            (
                "session.json",
                json.dumps(
                    {
                        "AccessKeyId": "ASIA" + identity[4:],
                        "SecretAccessKey": secret,
                        "SessionToken": author.base64(300),
                    },
                    indent=4,
                ),
            ),
        ]
    )
    return name, content, (secret,)


def environment_file(author: Author) -> Written:
    password = author.text(14, LETTERS + DIGITS + "!%&")
    name = author.chance.choice([".env", ".env.local", ".env.production", ".env.staging"])
    content = f"DEBUG=0\nDB_PASSWORD={password}\nSECRET_KEY={author.text(50)}\n"
    return name, content, (password,)


def login_file(author: Author) -> Written:
    password = author.text(20)
    name, content = author.chance.choice(
        [
            (".npmrc", f"registry=https://npm.example.org/\n//npm.example.org/:_authToken={password}\n"),
            (".pypirc", f"[internal]\nusername = ci\npassword = {password}\n"),
            (".netrc", f"machine git.example.org\nlogin ci\npassword {password}\n"),
            (".git-credentials", f"https://ci:{password}@git.example.org\n"),
            (
                ".docker/config.json",
                json.dumps({"auths": {"r.example.org": {"auth": password + "=="}}}, indent=1),
            ),
            (
                ".kube/config",
                "apiVersion: v1\nkind: Config\nusers:\n- name: ci\n"
                f"  user:\n    token: {password}\n",
            ),
        ]
    )  # fmt: skip
    return name, content, (password,)


def azure(author: Author) -> Written:
    key = author.base64(64)
    text = f"DefaultEndpointsProtocol=https;AccountName={author.word()};AccountKey={key};"
    return "appsettings.json", json.dumps({"Storage": text + "EndpointSuffix=x"}, indent=2), (key,)


def terraform_state(author: Author) -> Written:
    password = author.text(16)
    state = {"version": 4, "resources": [{"type": "aws_db_instance", "password": password}]}
    return "terraform.tfstate", json.dumps(state, indent=2), (password,)


TOKENS: tuple[Callable[[Author], str], ...] = (
    lambda a: "ghp_" + a.text(36),
    lambda a: "gho_" + a.text(36),
    lambda a: "github_pat_" + a.text(22) + "_" + a.text(59),
    lambda a: "glpat-" + a.text(20, LETTERS + DIGITS + "_-"),
    lambda a: f"xoxb-{a.text(12, DIGITS)}-{a.text(13, DIGITS)}-{a.text(24)}",
    lambda a: f"xoxp-{a.text(12, DIGITS)}-{a.text(12, DIGITS)}-{a.hex(32)}",
    lambda a: "https://hooks.slack.com/services/T" + "/".join(
        (a.text(8, UPPER), "B" + a.text(10, UPPER), a.text(24))
    ),
    lambda a: "sk_live_" + a.text(24),
    lambda a: "rk_live_" + a.text(99),
    lambda a: "AIza" + a.text(35, LETTERS + DIGITS + "_-"),
    lambda a: "GOCSPX-" + a.text(28, LETTERS + DIGITS + "_-"),
    lambda a: f"sk-ant-api03-{a.text(93, LETTERS + DIGITS + '_-')}AA",
    lambda a: "sk-" + a.text(20) + "T3BlbkFJ" + a.text(20),
    lambda a: "sk-proj-" + a.text(74, LETTERS + DIGITS + "_-") + "T3BlbkFJ" + a.text(74),
    lambda a: "hf_" + a.text(34, LETTERS),
    lambda a: "npm_" + a.text(36),
    lambda a: "pypi-AgEIcHlwaS5vcmc" + a.text(150, LETTERS + DIGITS + "_-"),
    lambda a: f"SG.{a.text(22)}.{a.text(43)}",
    lambda a: "dop_v1_" + a.hex(64),
    lambda a: "dapi" + a.hex(32),
    lambda a: "hvs." + a.text(95, LETTERS + DIGITS + "_-"),
    lambda a: f"{a.text(3)}8Q~{a.text(34, LETTERS + DIGITS + '_-.~')}",
    lambda a: "shpat_" + a.hex(32),
    lambda a: "glsa_" + a.text(32) + "_" + a.hex(8),
    lambda a: "dckr_pat_" + a.text(27, LETTERS + DIGITS + "_-"),
    lambda a: f"{a.text(14)}.atlasv1.{a.text(67)}",
    lambda a: "AGE-SECRET-KEY-1" + a.text(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"),
)  # fmt: skip

SECRETS: tuple[Write, ...] = (
    *(token(make) for make in TOKENS),
    *(aws for _ in range(12)),
    *(environment_file for _ in range(6)),
    *(login_file for _ in range(6)),
    private_key("RSA", "server.pem"),
    private_key("", "tls.key"),
    private_key("EC", "signing.pem"),
    private_key("OPENSSH", "id_ed25519"),
    private_key("OPENSSH", "deploy_key"),
    private_key("ENCRYPTED", "old.key"),
    private_key("DSA", "legacy.pem"),
    service_account,
    key_in_source,
    azure,
    terraform_state,
)


# Clean files.


def source(author: Author) -> Written:
    return f"{author.name()}.py", author.code(30), ()


def reads_environment(author: Author) -> Written:
    name = author.name().upper()
    lines = (
        f'{name}_TOKEN = os.environ["{name}_TOKEN"]\n'
        'session = boto3.Session(aws_access_key_id=os.getenv("AWS_ACCESS_KEY_ID"),\n'
        '    aws_secret_access_key=os.getenv("AWS_SECRET_ACCESS_KEY"))\n'
        'SECRET_KEY = config("SECRET_KEY", default="insecure-development-only-key")\n'
    )  # fmt: skip
    return f"{author.name()}.py", author.code() + lines, ()


def documentation(author: Author) -> Written:
    """READMEs show how to configure, with the examples every vendor's pages show."""
    examples = author.chance.sample(
        [
            "export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\n"
            "export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "export GITHUB_TOKEN=ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "OPENAI_API_KEY=sk-...",
            "ANTHROPIC_API_KEY=sk-ant-your-key",
            "HF_TOKEN=hf_XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
            "AWS_SECRET_ACCESS_KEY=<your secret access key>",
            "aws configure set aws_secret_access_key YOUR_SECRET_ACCESS_KEY_GOES_RIGHT_HERE_",
            "-----BEGIN PRIVATE KEY-----\n<contents of your key>\n-----END PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA...\n-----END RSA PRIVATE KEY-----",
            "SLACK_TOKEN=xoxb-your-token-goes-right-here",
            "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
            "stripe.api_key = 'sk_test_4eC39HqLyjWDarjtT1zdp7dc'",
            "AccountKey=<account-key>;EndpointSuffix=core.windows.net",
            "glpat-xxxxxxxxxxxxxxxxxxxx",
            "SG.xxxxxxxx.yyyyyyyy",
        ],
        4,
    )
    text = "\n".join(f"{author.sentence()}\n\n```sh\n{one}\n```\n" for one in examples)
    return f"{author.name()}.md", f"# {author.word().title()}\n\n{text}", ()


def environment_template(author: Author) -> Written:
    name = author.chance.choice([".env.example", ".env.sample", ".env.template", ".env.dist"])
    content = "DB_PASSWORD=\nAWS_SECRET_ACCESS_KEY=changeme\nAPI_TOKEN=<token>\nDEBUG=1\n"
    return name, content, ()


def package_lock(author: Author) -> Written:
    packages = {
        f"node_modules/{author.name()}": {
            "version": f"{author.chance.randrange(9)}.0.1",
            "resolved": f"https://registry.example.org/{author.word()}/-/{author.word()}.tgz",
            "integrity": f"sha512-{author.base64(64)}",
        }
        for _ in range(25)
    }
    return "package-lock.json", json.dumps({"packages": packages}, indent=2), ()


def python_lock(author: Author) -> Written:
    entries = (
        f'[[package]]\nname = "{author.word()}"\nversion = "1.{author.chance.randrange(40)}"\n'
        f'sdist = {{ url = "https://files.example.org/packages/{author.hex(2)}/{author.hex(60)}/x.tar.gz",'
        f' hash = "sha256:{author.hex(64)}" }}\n'
        for _ in range(20)
    )  # fmt: skip
    return "uv.lock", "\n".join(entries), ()


def go_sum(author: Author) -> Written:
    lines = (
        f"example.org/{author.word()}/{author.word()} v1.{author.chance.randrange(30)}.0 "
        f"h1:{author.base64(32)}\n"
        for _ in range(40)
    )
    return "go.sum", "".join(lines), ()


def checksums(author: Author) -> Written:
    width = author.chance.choice([32, 40, 64])
    lines = (f"{author.hex(width)}  dist/{author.name()}.whl\n" for _ in range(30))
    return "SHA256SUMS", "".join(lines), ()


def changelog(author: Author) -> Written:
    lines = (f"* {author.sentence()} ({author.hex(40)})\n" for _ in range(25))
    return "CHANGELOG.md", "".join(lines), ()


def identifiers(author: Author) -> Written:
    rows = (f"{author.uuid()},{author.word()},{author.chance.random():.6f}\n" for _ in range(60))
    return f"{author.name()}.csv", "id,label,score\n" + "".join(rows), ()


def certificate(author: Author) -> Written:
    body = author.wrapped(900)
    return (
        author.chance.choice(["ca.pem", "server.crt", "chain.pem"]),
        f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n",
        (),
    )


def public_key(author: Author) -> Written:
    name, content = author.chance.choice(
        [
            ("id_rsa.pub", f"ssh-rsa AAAAB3NzaC1yc2E{author.base64(270)} me@{author.word()}\n"),
            ("id_ed25519.pub", f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{author.text(43)} x\n"),
            ("known_hosts", f"git.example.org ssh-ed25519 AAAAC3NzaC1lZDI1{author.text(51)}\n"),
            (
                "release.asc",
                "-----BEGIN PGP SIGNATURE-----\n\n"
                f"{author.wrapped(540)}\n-----END PGP SIGNATURE-----\n",
            ),
            (
                "verify.pem",
                f"-----BEGIN PUBLIC KEY-----\n{author.wrapped(294)}\n-----END PUBLIC KEY-----\n",
            ),
        ]
    )
    return name, content, ()


def embedded_image(author: Author) -> Written:
    image = author.base64(3000)
    return (
        f"{author.name()}.css",
        f".icon {{ background: url(data:image/png;base64,{image}) }}\n",
        (),
    )


def notebook(author: Author) -> Written:
    cell = {
        "cell_type": "code",
        "source": author.code().splitlines(keepends=True),
        "outputs": [{"data": {"image/png": author.base64(6000), "text/plain": ["<Figure>"]}}],
    }
    return f"{author.name()}.ipynb", json.dumps({"cells": [cell], "nbformat": 4}, indent=1), ()


def bundle(author: Author) -> Written:
    calls = ";".join(f"function {author.text(2)}(e){{return e.{author.word()}}}" for _ in range(90))
    mappings = author.text(4000, BASE64 + ";,")
    return f"{author.name()}.min.js", f"!function(){{{calls}}}();\n//# mappings={mappings}\n", ()


def workflow(author: Author) -> Written:
    content = (
        "on: push\njobs:\n  build:\n    steps:\n"
        f"      - uses: actions/checkout@{author.hex(40)}\n"
        "        env:\n          GITHUB_TOKEN: ${{ secrets.GITHUB_TOKEN }}\n"
        "          AWS_SECRET_ACCESS_KEY: ${{ secrets.AWS_SECRET_ACCESS_KEY }}\n"
    )
    return f".github/workflows/{author.name()}.yml", content, ()


def infrastructure(author: Author) -> Written:
    content = (
        f'resource "aws_db_instance" "{author.word()}" {{\n'
        "  password   = var.db_password\n  kms_key_id = "
        f'"arn:aws:kms:eu-west-1:123456789012:key/{author.uuid()}"\n}}\n'
        f'provider "aws" {{\n  secret_key = var.aws_secret_key\n}}\n'
    )
    return f"{author.name()}.tf", content, ()


def kubernetes(author: Author) -> Written:
    content = (
        f"kind: Deployment\nmetadata:\n  name: {author.word()}\nspec:\n  containers:\n"
        f"  - image: registry.example.org/{author.word()}@sha256:{author.hex(64)}\n"
        "    env:\n    - name: AWS_SECRET_ACCESS_KEY\n"
        "      valueFrom: {secretKeyRef: {name: aws, key: secret_access_key}}\n"
    )
    return f"{author.name()}.yaml", content, ()


def scanner(author: Author) -> Written:
    """Code about credentials: their patterns, their markers, made-up ones in tests."""
    content = (
        'PATTERNS = [r"AKIA[0-9A-Z]{16}", r"ghp_[A-Za-z0-9]{36}", r"BEGIN .*PRIVATE KEY"]\n'
        'FAKE = "ghp_" + "x" * 36\n'
        'if line.startswith("-----BEGIN RSA PRIVATE KEY-----"):\n    raise ValueError("no keys")\n'
        'monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")\n'
        f'assert digest == "{author.hex(40)}"\n'
    )  # fmt: skip
    return f"test_{author.name()}.py", author.code() + content, ()


def hashes_in_code(author: Author) -> Written:
    lines = "".join(f'    "{author.name()}": "{author.hex(64)}",\n' for _ in range(8))
    more = f'ETAG = "{author.hex(32)}"\nsecret_key_fingerprint = "{author.hex(40)}"\n'
    return (
        f"{author.name()}.py",
        f"KNOWN = {{\n{lines}}}\n{more}NONCE = '{author.base64(24)}'\n",
        (),
    )


def protocol(author: Author) -> Written:
    escaped = "".join(f"\\x{author.hex(2)}" for _ in range(300))
    return f"{author.word()}_pb2.py", f"DESCRIPTOR = _pool.AddSerializedFile(b'{escaped}')\n", ()


def record(author: Author) -> Written:
    lines = (
        json.dumps({"id": author.uuid(), "trace": author.hex(32), "etag": author.base64(16),
                    "key": f"s3://{author.word()}/{author.text(20)}/{author.base64(30)}"})
        for _ in range(20)
    )  # fmt: skip
    return f"{author.name()}.jsonl", "\n".join(lines) + "\n", ()


CLEAN: tuple[Write, ...] = (
    source, reads_environment, documentation, environment_template, package_lock, python_lock,
    go_sum, checksums, changelog, identifiers, certificate, public_key, embedded_image, notebook,
    bundle, workflow, infrastructure, kubernetes, scanner, hashes_in_code, protocol, record,
)  # fmt: skip


def planted(writers: tuple[Write, ...], count: int, seed: int, top: str) -> list[Planted]:
    """``count`` files, of every kind about as many, each in a directory of its own."""
    author = Author(seed)
    made = []
    for number, write in enumerate(islice(cycle(writers), count)):
        name, content, values = write(author)
        made.append(Planted(f"{top}/{author.word()}_{number}/{name}", content, values))
    return made
