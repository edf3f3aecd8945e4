"""Training the small parts beside a frozen foundation."""
