"""The settings of a deployment, one module a group."""
