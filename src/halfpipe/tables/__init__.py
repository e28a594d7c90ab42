"""What people ask in rows: downlinks, runs, files, jobs."""
