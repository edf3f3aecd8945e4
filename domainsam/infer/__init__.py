"""Many pieces in, one answer out: tiling, blending, prompts of a whole scene."""
