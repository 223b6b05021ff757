"""The signing key: what a deployment makes of it, and who may use it."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.unit.stacks.workflow.test_documents import signing_key


@pytest.fixture(scope="module")
def signing(synthesise, tmp_path_factory):
    """The workflow's template of a stage with a key in KMS whose signature instances ask for."""
    directory = tmp_path_factory.mktemp("signing")
    synthesise(directory, stage="prod", signing="kms", signing_key=signing_key())
    return json.loads((directory / "Codeferry-prod-Workflow.template.json").read_text())


def test_kms_makes_a_key_that_signs_and_nothing_else(signing):
    (key,) = [r for r in signing["Resources"].values() if r["Type"] == "AWS::KMS::Key"]
    assert key["Properties"]["KeySpec"] == "RSA_3072"
    assert key["Properties"]["KeyUsage"] == "SIGN_VERIFY"
    assert "Signing" in signing["Outputs"]
    assert "SignedBy" in signing["Outputs"]


def test_off_by_default(template):
    assert "Signing" not in template("Workflow")["Outputs"]
    assert "CODEFERRY_SIGNING_KEY" not in json.dumps(template("Documents"))


def test_no_role_of_ours_may_sign(signing):
    """What takes over a function, an instance or a deployment signs nothing."""
    for resource in signing["Resources"].values():
        if resource["Type"].startswith("AWS::IAM::"):
            assert "kms:Sign" not in json.dumps(resource)
    from codeferry_contracts.names import Stage
    from stacks.permissions.roles import Place, boundary_document, cloudformation_permissions

    place = Place("aws", "eu-west-1", "1" * 12, Stage("prod"))
    granted = json.dumps(boundary_document(place)) + str(cloudformation_permissions(place))
    assert "kms:Sign" not in granted
    assert "kms:*" not in granted


def test_the_functions_know_the_key(signing):
    functions = [r for r in signing["Resources"].values() if r["Type"] == "AWS::Lambda::Function"]
    ours = [f["Properties"]["Environment"]["Variables"] for f in functions]
    assert {len(each["SIGNING_KEY"]) for each in ours} == {512}


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"signing_key": "x"}, "without signing"),
        ({"signing": "pgp"}, "cannot be"),
        ({"signing": "kms", "signing_key": "x"}, "no RSA public key"),
        ({"signing": "kms", "signing_key": "short"}, "no RSA public key"),
        ({"signing": "kms", "signing_key": "elliptic"}, "no RSA public key"),
        ({"signing": "kms", "signing_key": "exponent"}, "exponent 3"),
    ],
)
def test_a_key_that_could_not_be_used_fails_the_synth(context, words):
    from aws_cdk import App

    from stacks.settings import SettingInvalid, Settings

    keys = {
        "short": lambda: rsa.generate_private_key(65537, 1024),
        "elliptic": lambda: ec.generate_private_key(ec.SECP256R1()),
        "exponent": lambda: rsa.generate_private_key(3, 2048),
    }
    if context.get("signing_key") in keys:
        public = keys[context["signing_key"]]().public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        context = context | {"signing_key": base64.b64encode(der).decode()}
    with pytest.raises(SettingInvalid, match=words):
        Settings.from_context(App(context=context))
