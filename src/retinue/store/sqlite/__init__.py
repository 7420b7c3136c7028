"""The embedded store: two SQLite files, any number of reading processes, one writer at a time."""
