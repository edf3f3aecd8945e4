"""Compare settlements over the years: common ground, change objects, areas with intervals, report."""
