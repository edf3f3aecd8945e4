"""Memory over frames (sensors, slices, years): SAM 2's memory bank, MemorySAM, prototypes."""
