"""From staged bytes to finished files."""
