"""The user's AWS: sessions, the deployed stage, errors with their remedy, and checks."""
