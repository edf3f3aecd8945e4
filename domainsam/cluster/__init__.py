"""A job over many inputs as a list of tasks that any batch system can do: plan, work, gather."""
