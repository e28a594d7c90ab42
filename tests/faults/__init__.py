"""Kills, damage, hosts side by side, and bad input."""
