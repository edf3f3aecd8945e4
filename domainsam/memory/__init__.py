"""What was seen in earlier frames, offered to the next: sensors, slices, years."""
