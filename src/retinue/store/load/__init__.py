"""Groups of follows: columns that are placed at once, by array arithmetic."""
