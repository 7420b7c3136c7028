"""What several test files share: services, stores, clocks, processes, faults."""
