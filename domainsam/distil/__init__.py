"""Distillation: a student that learns to see and answer as a promptable teacher does, from pictures alone."""
