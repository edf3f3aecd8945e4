"""Draw a reference sample for an estimate of area or change, and make the form in which it is labelled."""
