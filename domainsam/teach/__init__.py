"""Training of what understands words: a file a method, and their table (:mod:`domainsam.teach.methods`)."""
