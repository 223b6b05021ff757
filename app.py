"""Composes the stacks of one stage. Makes no AWS call; the same input gives the same output."""

from __future__ import annotations

from aws_cdk import App, Stack, Tags, Validations
from aws_cdk import aws_iam as iam
from cdk_nag import AwsSolutionsChecks

from stacks.fleet.stack import FleetStack
from stacks.gitops import GitOpsStack
from stacks.monitoring import MonitoringStack
from stacks.settings import Settings
from stacks.storage.artifacts import StorageStack
from stacks.storage.fleet_storage import FleetStorageStack
from stacks.workflow.documents import DocumentsStack
from stacks.workflow.stack import WorkflowStack

# Stack traces name the directory jsii has unpacked itself to, another one each time: without
# them the same sources are the same assembly, and what was reviewed can be told by its digest.
NO_TRACES = {"aws:cdk:disable-creation-stack-traces": True}


def build(app: App) -> App:
    """All stacks of the stage that the context names (``-c stage=dev``)."""
    settings = Settings.from_context(app)
    stage = settings.stage
    storage = StorageStack(app, stage.storage_stack, settings=settings)
    documents = DocumentsStack(app, stage.documents_stack, settings=settings)
    workflow = WorkflowStack(app, stage.workflow_stack, settings=settings, storage=storage)
    # The functions fit the documents of before, but the new documents need the new functions.
    documents.add_stack_dependency(workflow)
    kept = FleetStorageStack(app, stage.fleet_storage_stack, settings=settings)
    monitoring = MonitoringStack(
        app, stage.monitoring_stack, settings=settings, undelivered=workflow.undelivered
    )
    if settings.fleet:
        fleet = FleetStack(
            app,
            stage.fleet_stack,
            settings=settings,
            fleet=settings.fleet,
            storage=kept,
            alarms=monitoring.topic,
        )
        # Its instances take the policy that the workflow exports by name.
        fleet.add_stack_dependency(workflow)
    if settings.gitops:
        GitOpsStack(app, stage.gitops_stack, settings=settings, gitops=settings.gitops)
    if settings.permissions_boundary:
        _bound(app, settings.permissions_boundary)
    # Both are meant as cost allocation tags: docs/fleet.md says how to turn them on.
    Tags.of(app).add("codeferry:stage", stage.name)
    for stack in app.node.children:
        Tags.of(stack).add("codeferry:stack", stack.node.id)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    return app


def _bound(app: App, policy: str) -> None:
    """No role of any stack reaches further than the managed policy of that name."""
    for stack in app.node.children:
        assert isinstance(stack, Stack)
        boundary = iam.ManagedPolicy.from_managed_policy_name(stack, "Boundary", policy)
        iam.PermissionsBoundary.of(stack).apply(boundary)


if __name__ == "__main__":
    build(App(stack_traces=False, post_cli_context=NO_TRACES)).synth()
