"""Generated scenes and their sensors."""
