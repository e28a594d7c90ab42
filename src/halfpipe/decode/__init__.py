"""From level-0 to event files and indexes: run the decoder, with or without a container, and check its products."""
