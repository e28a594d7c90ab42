"""Snakemake as a program that the site runs: the timer's turns, history, alarms, cleanup."""
