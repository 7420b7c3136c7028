"""How graphs get in: files to records, records to the store."""
