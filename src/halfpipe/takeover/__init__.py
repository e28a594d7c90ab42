"""What the legacy has delivered becomes known here, so that what it began can be finished."""
