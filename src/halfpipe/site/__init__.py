"""The life of a site: unattended turns, batches, alarms, Online and clean-up."""
