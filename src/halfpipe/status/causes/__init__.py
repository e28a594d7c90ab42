"""Causes in the facts of a downlink, a module for each step. No function here opens a file."""
