"""What a site has: a ledger (also on PostgreSQL), Slurm, XRootD, and a browser for the board."""
