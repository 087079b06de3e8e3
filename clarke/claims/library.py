"""What this library claims itself, in the same form."""
