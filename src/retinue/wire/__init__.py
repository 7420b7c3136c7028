"""The wire format: parsing requests and rendering answers, without I/O."""
