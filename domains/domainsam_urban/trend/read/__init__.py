"""Read the inputs of a trend: years, listings, masks, zones, reference data."""
