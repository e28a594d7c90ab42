"""For some days of a site's life: another system's deliveries, RetDefs made here, a run processed alone."""
