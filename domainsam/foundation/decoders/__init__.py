"""Prompt encoders and mask decoders: the official one, and the compact one of the embedded foundation."""
