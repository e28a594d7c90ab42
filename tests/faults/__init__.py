"""Harm, death, hosts side by side, and bad input: what is left is looked at."""
