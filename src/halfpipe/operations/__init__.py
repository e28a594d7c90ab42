"""What operators do beside the jobs: switches, and the unattended turn."""
