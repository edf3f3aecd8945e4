"""Clean-up and statistics of organ masks."""
