"""An order, and a place in one arena for every value."""
