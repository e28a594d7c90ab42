"""File formats, one module each: bytes to arrays and back."""
