"""Errors of botocore as what failed and the command that fixes it.

Codes as the services document them under "Common Errors"; S3 answers HEAD requests
with the bare HTTP status."""

from __future__ import annotations

from typing import Any

from codeferry_cli import errors
from codeferry_cli.aws.session import Access, local_not_running
from codeferry_contracts.errors import CodeferryError

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_UNKNOWN_KEYS = {
    "AuthFailure",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_DENIED = {"403", "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "Forbidden"}
_GONE = {
    "NoSuchBucket",
    "StateMachineDoesNotExist",
    "StateMachineDeleting",
    "ResourceNotFoundException",
}


def explain(error: Exception, access: Access) -> CodeferryError | None:
    """The error to show for one of botocore's; None when it is not botocore's."""
    from botocore import exceptions as found
    from botocore.parsers import ResponseParserError

    if isinstance(error, found.ClientError):
        return _refused(error, access)
    if isinstance(error, found.ProfileNotFound):
        return _problem("profile_unknown", f"{error}.", _configure(access))
    if isinstance(error, found.NoRegionError):
        return no_region()
    if isinstance(error, (found.SSOError, found.TokenRetrievalError)):
        return _expired(access, str(error))
    if isinstance(error, (found.NoCredentialsError, found.PartialCredentialsError)):
        return no_credentials(access)
    if isinstance(error, found.CredentialRetrievalError):
        return _problem("credentials_missing", f"{error}", sign_in(access))
    if isinstance(error, (found.HTTPClientError, found.ConnectionError)):
        return _unreachable(error, access)
    if isinstance(error, ResponseParserError):
        return _problem(
            "aws_unreachable",
            "What answered is not AWS: its answer makes no sense.",
            "Check AWS_ENDPOINT_URL, and what is between here and AWS.",
        )
    if isinstance(error, found.BotoCoreError):
        return _problem("aws_configuration", f"{error}", sign_in(access))
    return None


def stage_missing(access: Access, region: str) -> errors.StageMissing:
    """The stage has no stacks where the session looks."""
    if access.is_local:
        return errors.StageMissing(
            "The embedded AWS runs, but nothing is deployed to it.",
            hint="Start it anew: ferry local down, then ferry local up",
        )
    return errors.StageMissing(
        f"Stage '{access.stage}' is not deployed in {region}.",
        hint=f"Deploy it: {_deploy(access)}\n"
        "or name the right one with --stage, --region and --profile.",
    )


def no_region() -> CodeferryError:
    return _problem(
        "region_missing",
        "No AWS region is configured.",
        "Name one with --region or in AWS_REGION (AWS_DEFAULT_REGION, FERRY_REGION),\n"
        "or: aws configure set region eu-west-1",
    )


def no_credentials(access: Access) -> CodeferryError:
    return _problem("credentials_missing", "No AWS credentials were found.", sign_in(access))


def sign_in(access: Access) -> str:
    profile = f" --profile {access.profile}" if access.profile else ""
    return f"Sign in: aws sso login{profile}\nor set up keys: aws configure{profile}"


def _refused(error: Any, access: Access) -> CodeferryError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", "")) or code
    call = error.operation_name
    if code in _EXPIRED:
        return _expired(access, f"{call}: {message}")
    if code in _UNKNOWN_KEYS:
        return _problem(
            "credentials_invalid",
            f"AWS does not accept these credentials: {message}",
            sign_in(access),
        )
    if code in _DENIED:
        return _problem(
            "access_denied",
            f"AWS denied {call}: {message}",
            "See which identity this is: aws sts get-caller-identity"
            f"{access.flags()}\n"
            'It needs the policy of docs/iam.md, "Whoever runs ferry".',
        )
    if code in _GONE:
        return errors.StageMissing(
            f"Stage '{access.stage}' is deployed only in part: {call}: {message}",
            hint="Start it anew: ferry local down, then ferry local up"
            if access.is_local
            else f"Deploy it again: {_deploy(access)}",
        )
    return errors.AwsFailed(f"AWS refused {call}: {message} ({code})")


def _unreachable(error: Exception, access: Access) -> CodeferryError:
    if access.is_local:
        return local_not_running()
    return _problem(
        "aws_unreachable",
        f"AWS cannot be reached: {error}",
        "Check the network, a proxy, and the region (--region).",
    )


def _expired(access: Access, message: str) -> CodeferryError:
    return _problem(
        "credentials_expired", f"The AWS credentials have expired ({message}).", sign_in(access)
    )


def _configure(access: Access) -> str:
    return f"Create it: aws configure --profile {access.profile or 'NAME'}\nor: aws configure sso"


def _deploy(access: Access) -> str:
    profile = f" --profile {access.profile}" if access.profile else ""
    return f"npx cdk deploy --all -c stage={access.stage}{profile}"


def _problem(code: str, message: str, hint: str) -> errors.AccessProblem:
    return errors.AccessProblem(message, hint=hint, code=code)
