"""The inference engine: tiling, blending, object prompts, journal and staging of whole scenes."""
