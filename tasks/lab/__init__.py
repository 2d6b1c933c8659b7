"""The laboratory on this very machine: a loopback SSH host, real engines for the CPU, and a tiny model."""
