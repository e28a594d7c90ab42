"""The life of a site: unattended turns, many downlinks, alarms, Online and cleanup."""
