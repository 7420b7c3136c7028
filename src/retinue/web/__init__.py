"""HTTP: the public application, its listener, and the management application."""
