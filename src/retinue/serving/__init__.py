"""The processes of a server: supervisor, workers, coordinator."""
