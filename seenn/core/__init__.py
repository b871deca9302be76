"""The waist: a network as a graph over a set of ops, and how it is stored."""
