"""From frames and samples to a film: encode, segments, join, verify."""
