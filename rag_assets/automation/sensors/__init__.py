"""Sensors, one module each, named for what they observe."""
