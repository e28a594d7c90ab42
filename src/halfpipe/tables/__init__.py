"""What people ask in rows: downlinks, runs, files.

A new report is a function here that makes a pandas frame of records, receipts or job logs, and an option of
`halfpipe show` that prints it (`cli/show.py`, `OF_VIEW` and a function that calls the one here).
"""
