"""Find credentials by a file's name and by its content. Their values go nowhere.

Patterns are those their issuers publish. A rule's ``hint`` is the part of it that RE2 can
express; all hints together are one automaton that reads a file once, and only where it stops
do the exact rules run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import re2


@dataclass(frozen=True, slots=True)
class Rule:
    """``pattern`` finds the credential; each of its groups must look random, not like a word."""

    what: str
    hint: str
    pattern: re.Pattern[bytes]


@dataclass(frozen=True, slots=True)
class NameRule:
    """A file whose name matches is a credential, if ``content`` is found in it."""

    what: str
    name: re.Pattern[bytes]
    content: re.Pattern[bytes]


def _rule(what: str, hint: str, pattern: str = "") -> Rule:
    return Rule(what, hint, re.compile((pattern or hint).encode(), re.DOTALL))


def _name_rule(what: str, name: str, content: str = r".") -> NameRule:
    path = rb"(?:^|/)(?:" + name.encode() + rb")$"
    return NameRule(what, re.compile(path), re.compile(content.encode(), re.DOTALL))


_GAP = r"[\"']?\s*(?:=>|[:=,])\s*(?:b|r)?[\"']?"  # between a key and its value, any language
_NO_HASH = r"(?![0-9a-f]{40}|[0-9A-F]{40})"
_ALONE = rf"(?<![A-Za-z0-9/+=]){_NO_HASH}([A-Za-z0-9/+]{{40}})(?![A-Za-z0-9/+=])"
_AWS_KEY_ID = r"\b(A[KS]IA[A-Z2-7]{16})\b"

RULES = (
    _rule(
        "a private key",
        "PRIVATE KEY",
        # Some base64 must follow: code and documents name the marker alone.
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[\s\"',+]|\\[nr]|[A-Z][A-Za-z-]+: [^\r\n]*)*([A-Za-z0-9+/]{24,})",
    ),
    _rule("a PuTTY private key", r"PuTTY-User-Key-File-\d: \S+"),
    _rule("an age secret key", r"AGE-SECRET-KEY-1([0-9A-Z]{50,})"),
    _rule(
        "an AWS secret access key",
        r"(?i:secret_?-?(?:access)?[_-]?key(?s:.){1,12}[A-Za-z0-9/+]{40})",
        rf"(?i:secret_?-?(?:access)?[_-]?key){_GAP}{_NO_HASH}([A-Za-z0-9/+]{{40}})(?![A-Za-z0-9/+=_-])",
    ),
    # A key id alone opens nothing: it counts with something like its secret beside it.
    _rule("an AWS access key", r"A[KS]IA[A-Z2-7]{16}", rf"{_AWS_KEY_ID}.{{0,300}}?{_ALONE}"),
    _rule("an AWS access key", r"A[KS]IA[A-Z2-7]{16}", rf"{_ALONE}.{{0,300}}?{_AWS_KEY_ID}"),
    _rule(
        "an AWS session token",
        r"(?i:aws_?session_?token)",
        rf"(?i:aws_?session_?token){_GAP}([A-Za-z0-9/+=]{{100,}})",
    ),
    _rule("a Google API key", r"\bAIza([0-9A-Za-z_-]{35})\b"),
    _rule("a Google client secret", r"GOCSPX-([\w-]{28})"),
    _rule("a Google refresh token", r"\"refresh_token\"\s*:\s*\"(1//0[\w-]{30,})\""),
    _rule("an Azure key", r"(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{42,86}=)"),
    _rule(
        "an Azure client secret",
        r"[\w~.-]{3}\dQ~[\w~.-]{31}",
        r"(?<![\w~.-])([\w~.-]{3}\dQ~[\w~.-]{31,34})(?![\w~.-])",
    ),
    _rule("a GitHub token", r"\bgh[pousr]_([A-Za-z0-9]{36,})\b"),
    _rule("a GitHub token", r"\bgithub_pat_(\w{36,})"),
    _rule("a GitLab token", r"\bglpat-([\w-]{20,})"),
    _rule("a Slack token", r"\bxox[abeoprs]-([0-9A-Za-z-]{20,})"),
    _rule("a Slack webhook", r"hooks\.slack\.com/services/T\w{7,}/B\w{7,}/(\w{20,})"),
    _rule("a Stripe key", r"\b[sr]k_live_([0-9A-Za-z]{16,})"),
    _rule("an Anthropic API key", r"\bsk-ant-([\w-]{24,})"),
    _rule("an OpenAI API key", r"\bsk-([\w-]{16,}T3BlbkFJ[\w-]{16,})"),
    _rule("an OpenAI API key", r"\bsk-((?:proj|svcacct)-[\w-]{40,})"),
    _rule("an OpenAI API key", r"\bsk-([A-Za-z0-9]{48})\b"),
    _rule("a Hugging Face token", r"\bhf_([A-Za-z0-9]{34})\b"),
    _rule("an npm token", r"\bnpm_([A-Za-z0-9]{36})\b"),
    _rule("a PyPI token", r"\bpypi-AgE([\w-]{40,})"),
    _rule("a SendGrid key", r"\bSG\.([\w-]{22}\.[\w-]{43})"),
    _rule("a DigitalOcean token", r"\bdo[opr]_v1_([a-f0-9]{64})\b"),
    _rule("a Databricks token", r"\bdapi([a-f0-9]{32})\b"),
    _rule("a Vault token", r"\bhvs\.([\w-]{24,})"),
    _rule("a Terraform Cloud token", r"\b\w{14}\.atlasv1\.([\w-]{60,})"),
    _rule("a Docker Hub token", r"\bdckr_(?:pat|oat)_([\w-]{27,})"),
    _rule("a Grafana token", r"\bgl(?:sa|c)_([A-Za-z0-9+/]{32,})"),
    _rule("a Shopify token", r"\bshp(?:at|ca|pa|ss)_([a-fA-F0-9]{32})\b"),
    _rule("an Atlassian token", r"\bATATT3([\w=-]{50,})"),
    _rule("a Linear key", r"\blin_api_([A-Za-z0-9]{40})\b"),
    _rule("a Postman key", r"\bPMAK-([a-f0-9]{24}-[a-f0-9]{34})\b"),
    _rule("a New Relic key", r"\bNRAK-([A-Z0-9]{27})\b"),
    _rule("a Pulumi token", r"\bpul-([a-f0-9]{40})\b"),
    _rule("a Tailscale key", r"\btskey-(?:auth|api|client)-(\w+-\w{20,})"),
    _rule("a PlanetScale token", r"\bpscale_(?:tkn|pw|oauth)_([\w.-]{32,})"),
    _rule("a Doppler token", r"\bdp\.(?:pt|st|ct|sa)\.([\w.]{40,})"),
    _rule("a Kubernetes client key", r"client-key-data[\"']?:\s*[\"']?([A-Za-z0-9+/=]{40,})"),
)

# Files that hold nothing but credentials, or forms no scan can read; an empty one is harmless.
NAME_RULES = (
    _name_rule(
        "an environment file",
        r"\.env(?:\.(?!(?:.*\.)?(?:example|sample|template|tmpl|dist|defaults?)$)[^/]*)?",
    ),
    _name_rule("an SSH private key", r"id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?"),
    _name_rule("a key store", r"[^/]*\.(?:p12|pfx|jks|keystore|kdbx?|ppk)"),
    _name_rule("AWS credentials", r"\.aws/credentials|\.aws/(?:sso|cli)/cache/[^/]*\.json"),
    _name_rule("Google credentials", r"application_default_credentials\.json"),
    _name_rule("Azure credentials", r"\.azure/(?:accessTokens|msal_token_cache)\.(?:json|bin)"),
    _name_rule("git's stored logins", r"\.git-credentials"),
    _name_rule("Terraform state, which holds secrets in clear", r"[^/]*\.tfstate(?:\.backup)?"),
    _name_rule("an npm login", r"\.npmrc", r"(?:_authToken|_auth|_password)\s*=\s*[^\s$]{8,}"),
    _name_rule("a package index login", r"\.pypirc", r"password\s*[:=]\s*\S+"),
    _name_rule("a login", r"[._]netrc", r"password\s+\S+"),
    _name_rule(
        "a registry login",
        r"\.docker/config\.json|\.dockercfg",
        r"\"auth\"\s*:\s*\"[A-Za-z0-9+/=]{8,}\"",
    ),
    _name_rule(
        "a Kubernetes login",
        r"\.kube/config|[^/]*kubeconfig[^/]*",
        r"(?:^|\n)\s*(?:token|password):\s*\S{8,}",
    ),
)

# One of these is in the base name of every path NAME_RULES can match.
TELLING_ENDS = (
    *(b".p12", b".pfx", b".jks", b".keystore", b".kdb", b".kdbx", b".ppk", b".tfstate"),
    *(b".backup", b"_sk", b"id_rsa", b"id_dsa", b"id_ecdsa", b"id_ed25519", b"credentials"),
    *(b"credentials.json", b"netrc", b".npmrc", b".pypirc", b".dockercfg", b"config"),
    *(b"config.json", b"accessTokens.json", b"msal_token_cache.json", b".bin"),
)

PLACEHOLDER = re.compile(
    rb"example|sample|placeholder|changeme|redacted|your|dummy|xxxx|\*\*\*\*|\.\.\."
    rb"|0{8}|a{8}|12345678|abcdefgh",
    re.IGNORECASE,
)


SCANNED_BYTES = (1 << 20) + 4096  # of each file: credentials stand in small ones or at the top

_TEXT_PROBE = 8192
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
_HINTS = re2.compile("|".join(rule.hint for rule in RULES).encode())


def find_secret(path: bytes, content: bytes) -> str | None:
    """What credential the file at ``path`` is or holds; None if none.

    ``content`` is the file or its first ``SCANNED_BYTES``; what follows those is not read.
    """
    return (_by_name(path, content) if _telling(path) else None) or _in_content(content)


def _telling(path: bytes) -> bool:
    name = path[path.rfind(b"/") + 1 :]
    return (
        name.endswith(TELLING_ENDS)
        or name.startswith(b".env")
        or b"kubeconfig" in name
        or b"/cache/" in path
    )


def _by_name(path: bytes, content: bytes) -> str | None:
    matching = (rule for rule in NAME_RULES if rule.name.search(path))
    return next((rule.what for rule in matching if rule.content.search(content)), None)


def _in_content(content: bytes) -> str | None:
    text = _text(content[:SCANNED_BYTES])
    if _HINTS.search(text) is None:
        return None
    for rule in RULES:
        if any(_looks_real(match) for match in rule.pattern.finditer(text)):
            return rule.what
    return None


def _text(content: bytes) -> bytes:
    """The content as ASCII-compatible text; empty when it does not look like text."""
    if content.startswith(_BYTE_ORDER_MARKS):
        return content.decode("utf-16", "ignore").encode()
    return b"" if b"\0" in content[:_TEXT_PROBE] else content


def _looks_real(match: re.Match[bytes]) -> bool:
    """Not a word for "put yours here", and not a few characters repeated."""
    return all(
        not PLACEHOLDER.search(value) and len(set(value)) >= min(8, len(value) // 2)
        for value in match.groups()
    )
