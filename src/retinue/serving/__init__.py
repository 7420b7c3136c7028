"""The processes of a running server: supervisor, workers, coordinator."""
