"""What a downlink needs to become complete: its RetDefs, what is outstanding, what stops it."""
