"""The agents of instances: ours, which runs steps for real, and genuine ones."""
