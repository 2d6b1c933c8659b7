"""The `lprism` command: one file a command group. Heavy libraries are imported inside the commands only."""
