"""The version of HalfPipe, which each receipt records, and that of the JSON documents that it prints."""

__version__ = "0.1.0"
DOCUMENTS = 3  # as in cli/documents.json; raised if a key for programs goes or gets another meaning
