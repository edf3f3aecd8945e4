"""Files and pictures that packs share; within the core only this imports rasterio, matplotlib or jinja2."""
