"""SIP Cluster: the B2BUA node that carries calls, and the controller that keeps its engines alive."""
