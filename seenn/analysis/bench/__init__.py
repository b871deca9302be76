"""How fast a spiking network is, beside the ANN that it came from, measured in alternation on this machine."""
