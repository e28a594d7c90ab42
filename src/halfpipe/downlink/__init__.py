"""The steps of one downlink: its plan, the delivery of its runs, its receipt, the look at the stage, its submission."""
