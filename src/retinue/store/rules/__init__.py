"""The changes that records and events make in a follow graph."""
