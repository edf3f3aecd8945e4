"""Reading photographs, masks and films."""
