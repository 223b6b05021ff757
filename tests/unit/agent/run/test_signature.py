"""Signatures: with a pinned key an instance runs what was signed and nothing else."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from codeferry_agent.run.errors import RunFailed
from codeferry_agent.run.payload import parse_payload
from codeferry_agent.run.signature import PinnedKey
from codeferry_contracts import signing
from codeferry_contracts.parameters import Payload
from codeferry_contracts.request import Signature
from tests.unit.agent.archives import SMALL, pack
from tests.unit.agent.conftest import Instance
from tests.unit.agent.signatures import message_of, private_key, signed, trust, value_of

ATTACKS = 10_000
BODY = pack(SMALL)
OTHER = pack({"other.txt": b"other"})
VARIABLES = json.dumps({"SECRET": "s"}).encode()


@pytest.fixture
def strict(instance: Instance) -> Instance:
    """An instance whose document pins a key."""
    instance.environ |= trust()
    return instance


def payload(instance: Instance, body: bytes = BODY, **changes: Any) -> Payload:
    instance.store.body = body
    return instance.payload(body, **changes)


def test_what_was_signed_is_applied(strict: Instance) -> None:
    assert strict.send(signed(payload(strict))).exit == 0
    assert strict.current.is_symlink()


def test_without_a_key_nothing_is_asked_for(instance: Instance) -> None:
    assert instance.send(payload(instance)).exit == 0
    assert instance.send(signed(payload(instance), key="theirs")).exit == 0


def test_unsigned_is_refused_before_a_byte_is_fetched(strict: Instance) -> None:
    answer = strict.send(payload(strict))
    assert answer.code == "signature_missing"
    assert not strict.store.ranges
    assert not strict.current.exists()


def test_an_archive_that_was_exchanged_is_not_unpacked(strict: Instance) -> None:
    """Whether the record says so, or only the bucket has another object."""
    known = signed(payload(strict))
    told = dataclasses.replace(known, sha256=hashlib.sha256(OTHER).hexdigest(), size=len(OTHER))
    strict.store.body = OTHER
    assert strict.send(told).code == "signature_invalid"
    assert not strict.store.ranges
    padded = OTHER + bytes(len(BODY) - len(OTHER)) if len(OTHER) < len(BODY) else OTHER[: len(BODY)]
    strict.store.body = padded
    assert strict.send(known).code == "checksum_mismatch"
    assert not strict.current.exists()


def test_an_older_release_is_not_brought_again(strict: Instance) -> None:
    old = signed(payload(strict), sequence=1000)
    assert strict.send(signed(payload(strict, OTHER), sequence=2000)).exit == 0
    current = strict.current_id
    strict.store.body = BODY
    assert strict.send(old).code == "signature_replayed"
    assert strict.current_id == current
    another = signed(payload(strict), sequence=1000, target="tag:Role=other")
    assert strict.send(another).exit == 0, "each target has a sequence of its own"


def test_the_same_release_may_come_twice(strict: Instance) -> None:
    for _ in range(2):
        assert strict.send(signed(payload(strict), sequence=1000)).exit == 0


def test_a_failed_release_says_nothing_of_what_was_had(strict: Instance) -> None:
    broken = signed(payload(strict, b"no archive"), sequence=5000)
    assert strict.send(broken).exit == 1
    assert strict.send(signed(payload(strict), sequence=1000)).exit == 0


def test_notes_are_for_root_alone(strict: Instance) -> None:
    strict.send(signed(payload(strict)))
    place = strict.root / ".signed"
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "demo").stat().st_mode & 0o777 == 0o600


def test_expired_is_refused_and_kept_never_is(strict: Instance) -> None:
    past = int(time.time()) - 1
    assert strict.send(signed(payload(strict), expires_at=past)).code == "signature_expired"
    assert strict.send(signed(payload(strict), expires_at=past + 100)).exit == 0
    assert strict.send(signed(payload(strict), expires_at=0)).exit == 0


def test_of_another_run_it_is_refused(strict: Instance) -> None:
    assert strict.send(signed(payload(strict), run_id="another")).code == "signature_invalid"
    own = payload(strict)
    assert strict.send(signed(own, run_id=own.run_id)).exit == 0


def test_for_other_instances_it_is_refused(strict: Instance) -> None:
    strict.environ["AWS_SSM_INSTANCE_ID"] = "i-0000000000000000a"
    theirs = signed(payload(strict), target="i-0000000000000000b,i-0000000000000000c")
    assert strict.send(theirs).code == "signature_target"
    ours = signed(payload(strict), target="i-0000000000000000b,i-0000000000000000a")
    assert strict.send(ours).exit == 0


def test_variables_that_were_exchanged_are_not_used(strict: Instance) -> None:
    """LD_PRELOAD is code: not another object, none where one was signed, nor one where none was."""
    known = hashlib.sha256(VARIABLES).hexdigest()
    changes: dict[str, Any] = {
        "command": ("sh", "-c", 'echo "$SECRET"'),
        "command_seconds": 60,
        "environment": True,
    }
    strict.store.variables = b'{"LD_PRELOAD": "/tmp/evil.so"}'
    exchanged = signed(payload(strict, **changes), environment=known)
    assert strict.send(exchanged).code == "signature_invalid"
    assert not strict.store.ranges
    bare = signed(payload(strict, **changes))
    assert strict.send(bare).code == "signature_invalid"
    without = signed(payload(strict, **changes | {"environment": False}), environment=known)
    assert strict.send(without).code == "signature_invalid"
    strict.store.variables = VARIABLES
    answer = run_command(strict, signed(payload(strict, **changes), environment=known))
    assert answer["ran"]["tail"] == "s\n"


def run_command(instance: Instance, told: Payload) -> Any:
    """The last line of a run with a command."""
    process = instance.start(told)
    process.communicate(timeout=60)
    return json.loads((instance.root / ".results" / told.run_id).read_text())


def test_a_script_is_asked_for_a_signature_too(strict: Instance) -> None:
    strict.arguments = ("script",)
    stated = payload(strict, command=("a.txt",), command_seconds=60)
    assert strict.send(stated).code == "signature_missing"
    assert strict.send(signed(stated, workflow="sync")).code == "signature_invalid"


# --- attacks by the thousand

Attack = Callable[[random.Random, Payload], Payload]


def _flipped(rng: random.Random, value: bytes) -> bytes:
    at = rng.randrange(len(value))
    return value[:at] + bytes([value[at] ^ (1 << rng.randrange(8))]) + value[at + 1 :]


def _with_value(known: Payload, value: str) -> Payload:
    assert known.signature
    return dataclasses.replace(known, signature={**known.signature, "value": value})


def _stating(known: Payload, **changes: Any) -> Payload:
    assert known.signature
    return dataclasses.replace(known, signature={**known.signature, **changes})


def _hex(rng: random.Random) -> str:
    return rng.randbytes(32).hex()


def _raw(known: Payload) -> bytes:
    assert known.signature
    return base64.b64decode(known.signature["value"])


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def truncation(rng: random.Random, known: Payload) -> Payload:
    raw = _raw(known)
    cut = rng.randrange(1, len(raw))
    return _with_value(known, _b64(raw[:cut] if rng.random() < 0.5 else raw[cut:]))


def altered(rng: random.Random, known: Payload) -> Payload:
    return _with_value(known, _b64(_flipped(rng, _raw(known))))


def concatenation(rng: random.Random, known: Payload) -> Payload:
    raw, more = _raw(known), rng.randbytes(rng.randrange(1, 64))
    return _with_value(known, _b64(rng.choice([raw + more, more + raw, raw + raw, b"\0" + raw])))


def of_the_modulus(rng: random.Random, known: Payload) -> Payload:
    """The same number again: s + n, and numbers whose power is themselves."""
    n = private_key("ours").public_key().public_numbers().n
    s = int.from_bytes(_raw(known), "big")
    number = rng.choice([s + n, n - s, 0, 1, n - 1, n])
    return _with_value(
        known, _b64(number.to_bytes(max(256, (number.bit_length() + 7) // 8), "big"))
    )


def archive(rng: random.Random, known: Payload) -> Payload:
    return dataclasses.replace(known, sha256=_hex(rng))


def environment(rng: random.Random, known: Payload) -> Payload:
    return rng.choice(
        [
            dataclasses.replace(known, environment=True),
            dataclasses.replace(_stating(known, environment=_hex(rng)), environment=True),
            _stating(known, environment=_hex(rng)),
        ]
    )


def project(rng: random.Random, known: Payload) -> Payload:
    return dataclasses.replace(known, project=f"demo{rng.randrange(10**6)}")


def target(rng: random.Random, known: Payload) -> Payload:
    return _stating(known, target=rng.choice(["all", "tag:a=b", f"i-{_hex(rng)[:17]}", "demo "]))


def sequence(rng: random.Random, known: Payload) -> Payload:
    return _stating(known, sequence=rng.randrange(2001, 1 << 53))


def expiry(rng: random.Random, known: Payload) -> Payload:
    return _stating(known, expires_at=rng.choice([0, int(time.time()) + rng.randrange(1, 10**6)]))


def digest(rng: random.Random, known: Payload) -> Payload:
    return dataclasses.replace(known, digest=_hex(rng))


def instructions(rng: random.Random, known: Payload) -> Payload:
    change: dict[str, Any] = rng.choice(
        [
            {"command": ("sh", "-c", _hex(rng))},
            {"command": (*known.command, "x")},
            {"health": ("true",)},
            {"install": True},
            {"user": "root"},
            {"persist": ("data",)},
        ]
    )
    return dataclasses.replace(known, **change)


def other_key(rng: random.Random, known: Payload) -> Payload:
    return _with_value(known, rng.choice(_by_other_keys()))


def algorithm(rng: random.Random, known: Payload) -> Payload:
    """The right key over the right bytes, by other rules."""
    return _with_value(known, rng.choice(_by_other_algorithms()))


def other_purpose(rng: random.Random, known: Payload) -> Payload:
    """A signature of ours, of something else."""
    return _with_value(known, rng.choice(_of_other_messages()))


def replay(rng: random.Random, known: Payload) -> Payload:
    return rng.choice(_older())


CLASSES: tuple[Attack, ...] = (
    truncation, altered, concatenation, of_the_modulus, archive, environment, project, target,
    sequence, expiry, digest, instructions, other_key, algorithm, other_purpose, replay,
)  # fmt: skip

PLAIN = Payload(
    run_id="run-1", project="demo", url="http://127.0.0.1:1/a", sha256="a" * 64, size=1,
    digest="b" * 64, files=1, unpacked_bytes=1, unpacked_files=1, keep_releases=5, strict=False,
    user="", persist=(), expect_files=(), expect_directories=(), command=("true",),
    command_seconds=60,
)  # fmt: skip
SEQUENCE = 2000


@cache
def _known() -> Payload:
    """What is attacked: taken as it is."""
    return signed(PLAIN, sequence=SEQUENCE, expires_at=int(time.time()) + 3600)


@cache
def _message() -> bytes:
    signature = _known().signature
    assert signature
    return message_of(PLAIN, Signature(**signature))


@cache
def _older() -> list[Payload]:
    return [signed(PLAIN, sequence=number) for number in (1, 1000, SEQUENCE - 1)]


@cache
def _by_other_keys() -> list[str]:
    return [value_of(_message(), key) for key in ("theirs", "of another stage")]


@cache
def _of_other_messages() -> list[str]:
    right = _message()
    header = b"codeferry signed release 1\n"
    assert right.startswith(header)
    others = (
        right.removeprefix(header),
        right + b" ",
        b"codeferry signed release 2\n" + right.removeprefix(header),
        hashlib.sha256(right).digest(),
    )
    return [value_of(message) for message in others]


@cache
def _by_other_algorithms() -> list[str]:
    right = _message()
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
    found = [
        _b64(private_key("ours").sign(right, rules, by))
        for rules, by in (
            (pss, hashes.SHA256()),
            (padding.PKCS1v15(), hashes.SHA1()),
            (padding.PKCS1v15(), hashes.SHA512()),
        )
    ]
    numbers, size = private_key("ours").private_numbers(), 256
    hashed = signing.DIGEST_INFO + hashlib.sha256(right).digest()
    for encoded in (  # not padded to the end (CVE-2006-4339), of other types, without its name
        b"\0\1" + b"\xff" * 8 + b"\0" + hashed + bytes(size - len(hashed) - 11),
        b"\0\2" + b"\xff" * (size - len(hashed) - 3) + b"\0" + hashed,
        b"\0\0" + b"\xff" * (size - len(hashed) - 3) + b"\0" + hashed,
        b"\0\1" + b"\xff" * (size - 32 - 3) + b"\0" + hashed[-32:],
    ):
        number = pow(int.from_bytes(encoded, "big"), numbers.d, numbers.public_numbers.n)
        found.append(_b64(number.to_bytes(size, "big")))
    return found


def _judged(trusted: PinnedKey, told: Payload) -> str:
    """The code it is refused with; nothing if it is taken."""
    try:
        parsed = parse_payload(told.encode())
        trusted.check(parsed)
        trusted.check_newer(parsed)
    except RunFailed as refusal:
        return refusal.code
    return ""


def test_none_of_ten_thousand_attacks_is_taken(tmp_path: Path) -> None:
    trusted, known = PinnedKey(trust(), tmp_path, "sync"), _known()
    assert _judged(trusted, known) == ""
    trusted.note(SimpleNamespace(project="demo", signature=known.signature))
    rng, codes = random.Random(13), Counter[str]()
    for number in range(ATTACKS):
        attack = CLASSES[number % len(CLASSES)]
        code = _judged(trusted, attack(rng, known))
        assert code, attack.__name__
        codes[code] += 1
    assert set(codes) == {"signature_invalid", "signature_replayed", "payload_invalid"}
    assert _judged(trusted, known) == "", "and what was signed still is"
