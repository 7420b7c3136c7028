"""Services, stores, clocks, processes and faults that several test files share."""
