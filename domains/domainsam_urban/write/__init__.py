"""Write polygons, rasters, grids, previews, styles and STAC items."""
