"""Composes the stacks of one stage. Makes no AWS call; the same input gives the same output."""

from __future__ import annotations

from aws_cdk import App, Tags, Validations
from cdk_nag import AwsSolutionsChecks

from stacks.documents import DocumentsStack
from stacks.settings import Settings
from stacks.storage import StorageStack
from stacks.workflow import WorkflowStack


def build(app: App) -> App:
    """All stacks of the stage that the context names (``-c stage=dev``)."""
    settings = Settings.from_context(app)
    stage = settings.stage
    storage = StorageStack(app, stage.storage_stack, settings=settings)
    documents = DocumentsStack(app, stage.documents_stack, settings=settings)
    workflow = WorkflowStack(app, stage.workflow_stack, settings=settings, storage=storage)
    workflow.add_stack_dependency(documents)
    Tags.of(app).add("codeferry:stage", stage.name)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    return app


if __name__ == "__main__":
    build(App()).synth()
