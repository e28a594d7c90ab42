"""What comes from outside is data: mutated, misnamed, oversized, and never interpreted."""
