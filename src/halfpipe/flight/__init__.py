"""The flight programs: in their container or bare, in a working copy, within limits.

What the two wrappers scripts/flight_decoder.py and scripts/flight_magic7.py share.
"""
