"""Where each file lies, how it is written and read so that what exists is whole, and who may touch it."""
