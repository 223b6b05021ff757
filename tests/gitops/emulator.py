"""The embedded AWS with what MiniStack lacks for a whole deployment: run as its process.

CloudFormation creates and updates two more resource types, and there is one more public image:

- ``AWS::SSM::Document`` is handed to the local SSM (``AWS_ENDPOINT_URL_SSM``), which runs it;
- ``AWS::IAM::OIDCProvider`` is kept by MiniStack's own IAM;
- the AMI parameter of Amazon Linux 2023 for arm64.
"""

from __future__ import annotations

import json
import os

import boto3

from codeferry_local.emulator.process import main

IMAGES = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-"


def add_types():
    from ministack.services import iam, ssm
    from ministack.services.cloudformation import provisioners

    provisioners._RESOURCE_HANDLERS |= {
        "AWS::SSM::Document": {
            "create": create_document,
            "update": update_document,
            "delete": delete_document,
        },
        "AWS::IAM::OIDCProvider": {
            "create": lambda _id, properties, _stack: create_provider(iam, properties),
            "delete": lambda arn, _properties: iam._oidc_providers.pop(arn, None),
        },
    }
    images = ssm._PUBLIC_AMI_PARAMETERS
    images[f"{IMAGES}arm64"] = images[f"{IMAGES}x86_64"]


def local_ssm():
    keys = dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"), "cloudformation")
    return boto3.client("ssm", region_name=os.environ["MINISTACK_REGION"], **keys)


def create_document(_logical_id, properties, _stack):
    names = ("Name", "DocumentType", "DocumentFormat", "TargetType")
    given = {name: properties[name] for name in names if name in properties}
    local_ssm().create_document(Content=json.dumps(properties["Content"]), **given)
    return properties["Name"], {}


def update_document(name, _old, properties, _stack):
    """A new version that becomes the default, as ``UpdateMethod: NewVersion`` says."""
    ssm = local_ssm()
    made = ssm.update_document(
        Name=name,
        Content=json.dumps(properties["Content"]),
        DocumentFormat=properties["DocumentFormat"],
        DocumentVersion="$LATEST",
    )
    version = made["DocumentDescription"]["DocumentVersion"]
    ssm.update_document_default_version(Name=name, DocumentVersion=version)
    return name, {}


def delete_document(name, _properties):
    local_ssm().delete_document(Name=name)


def create_provider(iam, properties):
    clients = enumerate(properties["ClientIdList"], 1)
    request = {f"ClientIDList.member.{n}": [client] for n, client in clients}
    iam._create_oidc_provider({"Url": [properties["Url"]], **request})
    host = properties["Url"].removeprefix("https://")
    arn = next(arn for arn in iam._oidc_providers if arn.endswith(f":oidc-provider/{host}"))
    return arn, {"Arn": arn}


if __name__ == "__main__":
    add_types()
    main()
