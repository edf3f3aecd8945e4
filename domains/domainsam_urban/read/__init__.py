"""From files to blocks: scenes, their bands, the wanted area, and places on the ellipsoid."""
