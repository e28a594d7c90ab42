"""What is remembered of a run, by run: what each downlink brought, and what was delivered of it."""
