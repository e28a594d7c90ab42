"""The life of a site: unattended turns, batches, switches, alarms, Online and clean-up."""
