"""Reports as tables: downlinks, runs, files.

`columns` describes the columns of each frame, `site_frames` reads them. To add a frame, describe it there, read it, and
name it in `TABLES` (`cli/show.py`).
"""
