"""Side networks trained beside a frozen foundation: ladder, low-rank updates, experts, class decoder."""
