"""What the workflow promises: golden bytes, take-over, histories, the jobs of each rule, and each command."""
