"""Files: complete writes, numbered records, leases, and errors of the file system."""
