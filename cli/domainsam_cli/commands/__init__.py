"""Commands of the core, one module each."""
