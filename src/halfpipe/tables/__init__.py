"""Reports as tables: downlinks, runs, files.

`columns` describes the columns of each frame, and `site_frames` reads the frames. To add a frame, extend both, and name
the frame in `TABLES` (`cli/show.py`).
"""
