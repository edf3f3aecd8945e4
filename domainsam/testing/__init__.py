"""Contract tests and generated data for domainsam and for other packages."""
