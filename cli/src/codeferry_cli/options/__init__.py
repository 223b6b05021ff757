"""Options of commands: their groups, their types, and the configuration file."""
