"""Simulated downlinks for tests and the demonstration. Nothing here is flight data."""

from halfpipe_simulator.packets import make_packet
from halfpipe_simulator.scenario import Run, Scenario, Simulation

__all__ = ["Run", "Scenario", "Simulation", "make_packet"]
