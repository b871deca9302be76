"""How a lowered network is executed: instructions bound to memory, and the kernels that compute them."""
