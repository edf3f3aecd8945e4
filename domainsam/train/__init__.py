"""Training of specialists and side networks beside a frozen foundation."""
