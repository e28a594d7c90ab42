"""Whole files, numbered records and leases: how what lies on the disk is written, read and kept whole."""
