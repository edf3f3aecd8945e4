"""From files to blocks: images, rasters and layouts of several sensors."""
