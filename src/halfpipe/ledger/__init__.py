"""The ledger: the state of each acquisition, in a database that Level-1 reads."""
