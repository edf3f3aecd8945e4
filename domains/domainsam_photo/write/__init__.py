"""Writing masks, tables of objects, overlays and films."""
