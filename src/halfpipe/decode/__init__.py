"""From level-0 to event files and indexes: the decoder, bare or in its container, and the check of all that it made."""
