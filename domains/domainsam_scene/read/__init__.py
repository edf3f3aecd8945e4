"""Read images, rasters and published layouts of several sensors."""
