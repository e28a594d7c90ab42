"""The stage, where Level-1 finds event files, texts and tokens."""
