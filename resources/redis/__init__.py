"""The client of a server that speaks the Redis protocol, such as Valkey."""
