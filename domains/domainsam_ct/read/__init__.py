"""From files to blocks: volumes, their geometry, and masks."""
