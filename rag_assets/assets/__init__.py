"""The seven assets, one file a stage."""
