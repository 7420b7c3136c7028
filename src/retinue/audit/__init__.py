"""The audit log: one record of each request, in files that a hash chain protects."""
