"""The ledger: which acquisitions there are and how they stand, in a database that Level-1 and MOOT read."""
