"""The AWS clients, errors as Step Functions carries them, settings, logs and metrics."""
