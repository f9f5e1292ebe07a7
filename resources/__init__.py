"""The outside world: stores, models and sources, their configuration and their failures."""
