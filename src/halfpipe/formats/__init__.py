"""File formats, one module each: how bytes become arrays and back."""
