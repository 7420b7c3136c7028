"""Writing a whole graph into files."""
