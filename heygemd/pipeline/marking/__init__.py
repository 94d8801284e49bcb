"""How a film says that a machine made it: visible label and metadata."""
