"""The board: how the site stands, as pages that a browser opens from a directory. It only reads."""
