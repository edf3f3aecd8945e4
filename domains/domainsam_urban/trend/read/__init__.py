"""From files to blocks: years, listings, maps, zones and reference data."""
