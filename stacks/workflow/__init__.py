"""The workflow stack."""
