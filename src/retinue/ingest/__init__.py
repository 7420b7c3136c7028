"""Ingestion of graphs: from files to records, and from records to the store."""
