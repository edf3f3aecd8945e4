"""How well and how fast foundations do, on any pictures and on this machine."""
