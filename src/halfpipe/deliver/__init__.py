"""From the merged index of a run to its event files, and from the runs of a downlink to its receipt."""
