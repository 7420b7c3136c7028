"""The rules: what records and events change in a follow graph, for every backend."""
