"""domainsam: Segment Anything in a user's own domain."""

__version__ = "0.1.0"
