"""Reports as tables: downlinks, runs, files.

To add a report, write a function here that makes a pandas frame from records, receipts or job logs, and an option of
`halfpipe show` that prints it (`cli/show.py`: `OF_VIEW` and a function that calls the one here).
"""
