"""The steps of one downlink: its plan, the delivery of its runs, its receipt, the stage check, its submission."""
