"""Tests of the ledger, on SQLite and on a private PostgreSQL (marker `postgresql`)."""
