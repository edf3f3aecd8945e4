"""Trained networks that run beside a frozen foundation."""
