"""The core's own commands: a module each."""
