"""Read satellite scenes: bands, areas, labels, and measures on the ellipsoid."""
