"""The embedded store: two SQLite files, many reading processes, one writer at a time."""
