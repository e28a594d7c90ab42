"""What Level-1 finds in the stage, and what is remembered of it."""
