"""The CDK stacks of a stage: storage, SSM documents, the workflow, the fleet and the rest."""
