"""The account of a downlink: what it should have, what it has, and what a person has to do about it."""
